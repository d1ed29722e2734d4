"""The gRPC front end: the Open Inference Protocol v2 and grpc.health.v1 on a port of their own, before the same core.

gRPC here is a skin over REST: a ModelInfer message becomes the JSON head and the binary tail of a REST request, goes
to the same `Service` on the event loop, and the binary answer becomes the message that goes back. So what is valid,
what errors say, the canary's share and the evidence are one code and cannot differ by protocol. `messages` turns one
into the other and knows no socket; `server` owns threads and the port; `health` tells who watches.

grpcio's synchronous server is used, since in Python its asyncio one costs more CPU for each request. A thread waits
for each call under way, so nothing a call waits for (a long run, a canary that hangs) may use up all threads: there
are many, and probes have their own. The package is imported only where the port is on, for what grpcio costs in
memory and in start-up.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # grpcio's own lines are no JSON; a drain would write one

from .server import GrpcServer

__all__ = ["GrpcServer"]
