"""One side of HTTP/2, the server's (RFC 9113), as a value that is told what happens and says what is to be done.

A `Connection` takes bytes and the time, and returns events and bytes. It opens no socket, starts no timer, reads no
clock, logs nothing and knows nothing of what is served: whoever has a transport feeds it, writes what it says and
answers its streams. So what a client can do to it is tested on bytes, in microseconds, in any order and at any time.

Only what a server of unary and server-streaming calls needs: no push, no priorities, no upgrade from HTTP/1.1.
`frames` knows bytes; `blocks` decodes header blocks; `abuse` counts what a client may cost; `connection` is the rest.
"""

from .abuse import RESETS
from .blocks import Head, block
from .connection import STREAMS, Connection, Limits, Load, Stream
from .events import Complete, Event, Left, Opened, Refused
from .frames import Error

__all__ = [
    "RESETS",
    "STREAMS",
    "Complete",
    "Connection",
    "Error",
    "Event",
    "Head",
    "Left",
    "Limits",
    "Load",
    "Opened",
    "Refused",
    "Stream",
    "block",
]
