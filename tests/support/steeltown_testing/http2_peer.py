"""A client of HTTP/2 that sends the frames that it is told to send, and reads what comes frame by frame."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import hpack
import numpy as np
from steeltown_server.rpc import inference_pb2 as pb

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PROTOCOL_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CALM = 1, 7, 8, 9, 11
INFER = "/inference.GRPCInferenceService/ModelInfer"
LIVE = "/inference.GRPCInferenceService/ServerLive"
CHECK = "/grpc.health.v1.Health/Check"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HBBBI", len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


def setting(name: int, value: int) -> bytes:
    return struct.pack(">HI", name, value)


def number(value: int) -> bytes:
    return struct.pack(">I", value)


def message(content: bytes = b"") -> bytes:
    return struct.pack(">BI", 0, len(content)) + content


def head(path: str = LIVE, **more: str) -> list[tuple[str, str]]:
    fields = {"content-type": "application/grpc", "te": "trailers"} | {k.replace("_", "-"): v for k, v in more.items()}
    pseudo = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "here"}
    return [*pseudo.items(), *fields.items()]


def plain(fields: list[tuple[str, str]]) -> bytes:
    """A header block that leaves the table as it is."""
    return bytes(hpack.Encoder().encode([(n, v, True) for n, v in fields], huffman=False))


def infer(rows: int) -> bytes:
    array = np.ones((rows, 3), np.float32)
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=[array.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=array.shape)
    return message(request.SerializeToString())


class Peer:
    """A client that sends what it is told and reads frame by frame."""

    def __init__(self, port: int, first: bytes = b"", *, preface: bytes = PREFACE) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._file = self.socket.makefile("rb")
        self._decoder = hpack.Decoder()
        self.send(preface + (frame(SETTINGS, 0, 0, first) if preface == PREFACE else b""))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def call(self, stream: int, path: str = LIVE, content: bytes | None = None, **more: str) -> None:
        body = message() if content is None else content
        frames = [frame(HEADERS, END_HEADERS, stream, plain(head(path, **more)))]
        frames += [frame(DATA, 0, stream, body[at : at + 16384]) for at in range(0, len(body), 16384)]
        self.send(b"".join((*frames, frame(DATA, END_STREAM, stream))))

    def read(self) -> tuple[int, int, int, bytes] | None:
        """The next frame: kind, flags, stream, payload. None at the end."""
        start = self._file.read(9)
        if len(start) < 9:
            return None
        high, low, kind, flags, stream = struct.unpack(">HBBBI", start)
        return kind, flags, stream, self._file.read(high << 8 | low)

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Those that come, less SETTINGS and WINDOW_UPDATE."""
        while found := self.read():
            if found[0] not in (SETTINGS, WINDOW_UPDATE):
                yield found

    def so_far(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Those that come before the answer to a PING that is sent now."""
        self.send(frame(PING, 0, 0, b"that far"))
        for found in self.frames():
            if found[0] == PING:
                return
            yield found

    def next(self) -> tuple[int, int, int, bytes]:
        return next(self.frames())

    def fields(self, block: bytes) -> dict[str, str]:
        return {str(name): str(value) for name, value in self._decoder.decode(block)}

    def answer(self, stream: int) -> tuple[bytes, dict[str, str]]:
        """The data and the last fields of the answer on a stream."""
        data = b""
        for kind, flags, where, payload in self.frames():
            assert where == stream, (kind, where)
            if kind == DATA:
                data += payload
            elif kind == HEADERS and (fields := self.fields(payload)) and flags & END_STREAM:
                return data, fields
        raise AssertionError("the connection ended before the answer")

    def status(self, stream: int) -> tuple[int, str]:
        fields = self.answer(stream)[1]
        return int(fields["grpc-status"]), fields.get("grpc-message", "")

    def goaway(self) -> tuple[int, int, str]:
        """Of the next GOAWAY: last stream, error, text."""
        for kind, _, _, payload in self.frames():
            if kind == GOAWAY:
                last, error = struct.unpack_from(">II", payload)
                return last, error, payload[8:].decode()
        raise AssertionError("the connection ended without GOAWAY")
