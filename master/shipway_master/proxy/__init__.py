"""The way to what tasks serve: `/proxy/SERVICE/…` on the master's own port."""

from shipway_master.proxy.proxy import Proxy

__all__ = ["Proxy"]
