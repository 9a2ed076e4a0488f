"""A call of the public API, whichever way it came in.

A service is a class per area of the API with methods named as the RPCs. All are coroutines:

    async def GetAgents(self, request: GetAgentsRequest, call: Call) -> GetAgentsResponse: ...
    async def TaskLogs(self, request: TaskLogsRequest, call: Call) -> AsyncIterator[…]: ...

The coroutine of a stream checks its request and *returns* an async iterator. So an error that it
raises itself is still told by the status of the answer, and after it the headers go out at once,
before there is a first item.

What a method raises is a `MasterError`; anything else is logged and answered as Internal. A unary
method runs to its end even if the caller hangs up, so that nothing stays half done; one that waits
for something to happen (rendezvous, preemption) is marked `@long_poll` and is then cancelled.
"""

from __future__ import annotations

from shipway_master.rpc.call import Call as Call
from shipway_master.rpc.call import long_poll as long_poll
from shipway_master.rpc.methods import METHODS as METHODS
from shipway_master.rpc.methods import Method as Method
from shipway_master.rpc.registry import Registry as Registry
