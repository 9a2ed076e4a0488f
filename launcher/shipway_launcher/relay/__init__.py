"""The launcher's second face: what jobs on compute nodes reach instead of the master."""

from __future__ import annotations

from shipway_launcher.relay.address import MasterAddress
from shipway_launcher.relay.relay import Relay
from shipway_launcher.relay.settings import RelaySettings
from shipway_launcher.relay.signals import SignalSpool

__all__ = ["MasterAddress", "Relay", "RelaySettings", "SignalSpool"]
