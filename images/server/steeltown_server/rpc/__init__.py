"""The gRPC front end: the Open Inference Protocol v2 and grpc.health.v1 on a port of their own, before the same core.

gRPC here is a skin over REST: a ModelInfer message becomes the JSON head and the binary tail of a REST request, goes
to the same `Service` on the event loop, and the binary answer becomes the message that goes back. So what is valid,
what errors say, the canary's share and the evidence are one code and cannot differ by protocol.

From the wire inwards: the package `steeltown_http2` knows frames, streams and what a client may make us hold; `http2`
puts it on sockets; `calls` knows gRPC's messages, deadlines and status; `server` the methods; `messages` turns protobuf
into REST and back; `health` tells who watches. The package is imported only where the port is on, for what protobuf
costs in memory and start-up.
"""

from .server import GrpcServer

__all__ = ["GrpcServer"]
