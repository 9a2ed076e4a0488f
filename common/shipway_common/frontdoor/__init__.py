"""The one TCP port: the first bytes of a connection decide who answers it.

`preface` decides, `door` accepts and hands on: HTTP/1 to the site in this process without copying
anything, HTTP/2 (which is gRPC) through `pump` to the gRPC server, which cannot take over a
connection and so listens on a private socket of its own.
"""

from __future__ import annotations

from shipway_common.frontdoor.door import KEEPALIVE as KEEPALIVE
from shipway_common.frontdoor.door import FrontDoor as FrontDoor
