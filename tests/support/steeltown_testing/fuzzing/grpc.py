"""The gRPC port as it is fuzzed: HTTP/2 frames, HPACK, windows and calls, with a real model behind them.

Random bytes seldom form a frame, so an input is a program: the first byte says how large the pieces are in which
bytes arrive, the second whether the rest is sent as it is, after the preface, or read as steps (`Step`). A step sends
frames, whole calls or broken ones, or lets time pass, or lets the server leave.

`Client` is the other end. It reads what was sent and what came back, and asserts what must hold whatever was sent:
frames are well formed, no more DATA comes than the windows granted, a stream has one answer, an answer is right or
has a status. In the end a connection that still stands gets all the window there is, and must answer every complete
request. Time is the loop's own, so an input does the same every time.
"""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
import struct
import zlib
from collections import deque
from collections.abc import Callable
from contextlib import closing
from enum import IntEnum
from typing import Any

import hpack
import numpy as np
from steeltown_http2 import frames
from steeltown_http2.blocks import OVERSIZE
from steeltown_http2.connection import ALIVE, LEAVING
from steeltown_http2.frames import (
    ACK,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    FRAME_HEADER,
    HEADER_BYTES,
    LARGEST_WINDOW,
    NO_STREAM,
    PADDED,
    PREFACE,
    SETTING,
    WITH_PRIORITY,
    Kind,
    frame,
)
from steeltown_server.rpc import health_pb2
from steeltown_server.rpc import inference_pb2 as pb
from steeltown_server.rpc import server as ports
from steeltown_server.rpc.calls import Code
from steeltown_server.rpc.http2 import Connection
from steeltown_server.rpc.server import GrpcServer
from steeltown_server.settings import Settings
from steeltown_tensors import Array

from steeltown_testing.fuzzing.http import DIGEST, Served, Transport

Fields = list[tuple[bytes, bytes]]
Outputs = dict[str, tuple[str, list[int], bytes]]

INFER = b"/inference.GRPCInferenceService/ModelInfer"
WATCH = b"/grpc.health.v1.Health/Watch"
ANSWERS: dict[bytes, Callable[[bytes], Any]] = {
    INFER: pb.ModelInferResponse.FromString,
    b"/inference.GRPCInferenceService/ServerLive": pb.ServerLiveResponse.FromString,
    b"/inference.GRPCInferenceService/ServerReady": pb.ServerReadyResponse.FromString,
    b"/inference.GRPCInferenceService/ModelReady": pb.ModelReadyResponse.FromString,
    b"/inference.GRPCInferenceService/ServerMetadata": pb.ServerMetadataResponse.FromString,
    b"/inference.GRPCInferenceService/ModelMetadata": pb.ModelMetadataResponse.FromString,
    b"/grpc.health.v1.Health/Check": health_pb2.HealthCheckResponse.FromString,
    WATCH: health_pb2.HealthCheckResponse.FromString,
}
PATHS = (*ANSWERS, b"/inference.GRPCInferenceService/Nothing", b"*")
MORE: tuple[Fields, ...] = (
    [],
    [(b"grpc-encoding", b"gzip")],
    [(b"grpc-encoding", b"deflate")],
    [(b"grpc-encoding", b"gzip, deflate, br")],
    [(b"grpc-timeout", b"1n")],
    [(b"grpc-timeout", b"2S")],
    [(b"grpc-timeout", b"99999999H")],
    [(b"grpc-timeout", b"soon")],
    [(b"content-length", b"5")],
    [(b"content-length", b"-1")],
    [(b"te", b"gzip")],
    [(b"connection", b"close")],
    [(b"Upper", b"x")],
    [(b":late", b"x")],
    [(b"long", b"x" * 600)],
    [(b"longer", b"x" * 3000)],
    [(b"longest", b"x" * 5000)],
    [(b"too-long", b"x" * 9000), (b"and-more", b"x" * 9000)],
    [(b"bad", b"a\r\nb")],
)
NUMBERS = (0, 1, 2, 5, 100, 4095, 4096, 16384, 65535, 1 << 20, (1 << 24) - 1, LARGEST_WINDOW - 65535, LARGEST_WINDOW)
SIZES = (0, 1, 5, 100, 4096, 16383, 16384, 16385)
SECONDS = (0.0, 0.5, 2.0, 4.0, 6.0, 30.0, 70.0, 100.0)
STEPS = 200
PIECES = 16
LONGEST_SECONDS = 86400.0 * 366


class Step(IntEnum):
    """With HOLD, what it sends goes out with the next step's; with RUSH, the loop does not turn after it."""

    CALL = 0
    HEADERS = 1
    BLOCK = 2
    DATA = 3
    SETTINGS = 4
    WINDOW_UPDATE = 5
    RST_STREAM = 6
    PING = 7
    PRIORITY = 8
    GOAWAY = 9
    CONTINUATION = 10
    FRAME = 11
    RAW = 12
    TIME = 13
    SERVER = 14
    PAUSE = 15


HOLD, RUSH = 0x80, 0x40


def framed(content: bytes, compressed: int = 0) -> bytes:
    return struct.pack(">BI", compressed, len(content)) + content


def infer(rows: int, *, typed: bool = False, width: int = 1, **more: Any) -> tuple[bytes, Outputs]:
    """A ModelInferRequest and the outputs of its answer."""
    arrays: dict[str, tuple[str, Array]] = {
        "f": ("FP32", np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)),
        "i": ("INT64", np.arange(rows) - 7),
    }
    texts = [b"%d" % row + b"x" * width for row in range(rows)]
    request = pb.ModelInferRequest(model_name="m", **more)
    raws = {name: array.tobytes() for name, (_, array) in arrays.items()}
    raws["s"] = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    expected: Outputs = {}
    for name, (datatype, shape) in {n: (d, list(a.shape)) for n, (d, a) in arrays.items()}.items():
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        expected[f"{name}_out"] = (datatype, shape, raws[name])
    request.inputs.add(name="s", datatype="BYTES", shape=[rows])
    expected["s_out"] = ("BYTES", [rows], raws["s"])
    if typed:
        request.inputs[0].contents.fp32_contents.extend(arrays["f"][1].ravel().tolist())
        request.inputs[1].contents.int64_contents.extend(arrays["i"][1].tolist())
        request.inputs[2].contents.bytes_contents.extend(texts)
    else:
        request.raw_input_contents.extend(raws.values())
    wanted = [output.name for output in request.outputs] or list(expected)
    return request.SerializeToString(), {name: expected[name] for name in wanted}


def compressed(content: bytes) -> tuple[bytes, bytes]:
    return framed(gzip.compress(content, mtime=0), 1), framed(zlib.compress(content), 1)


def messages() -> tuple[list[bytes], dict[tuple[bytes, bytes], Outputs]]:
    """Bodies of requests; and of those that are valid, (grpc-encoding, body) -> what a right answer holds."""
    some = pb.ModelInferRequest.InferRequestedOutputTensor
    calls = [
        infer(2, id="é"),
        infer(3, typed=True),
        infer(20, outputs=[some(name="s_out"), some(name="f_out")]),
        infer(3, width=9000),
        infer(1, model_version="m-v1"),
    ]
    bodies: list[bytes] = []
    expected: dict[tuple[bytes, bytes], Outputs] = {}
    for content, outputs in calls:
        plain = framed(content)
        for name in (b"identity", b"gzip", b"deflate"):
            expected[name, plain] = outputs
        bodies.append(plain)
    for name, body in zip((b"gzip", b"deflate"), compressed(calls[2][0]), strict=True):
        expected[name, body] = calls[2][1]
        bodies.append(body)
    other = pb.ModelInferRequest(model_name="nobody", model_version="v")
    odd = pb.ModelInferRequest(model_name="m", id="odd")
    for datatype, field in (("INT8", "int_contents"), ("FP16", "fp32_contents"), ("BOOL", "bool_contents")):
        getattr(odd.inputs.add(name="f", datatype=datatype, shape=[1]).contents, field).append(1)
    odd.outputs.add(name="f_out").parameters["classification"].int64_param = 3
    bodies += [
        framed(b""),
        framed(other.SerializeToString()),
        framed(odd.SerializeToString()),
        framed(pb.ModelReadyRequest(name="m", version="m-v1").SerializeToString()),
        framed(health_pb2.HealthCheckRequest(service=ports.SERVICE).SerializeToString()),
        framed(health_pb2.HealthCheckRequest(service="nobody").SerializeToString()),
        framed(gzip.compress(bytes(3 << 20), mtime=0), 1),
        b"",
        framed(b"") * 2,
        b"\1\0\0\0\xff",
    ]
    return bodies, expected


BODIES, EXPECTED = messages()


def head(path: bytes, more: Fields) -> Fields:
    method = b"GET" if path == b"*" else b"POST"
    fields = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"here")]
    return [*fields, (b"content-type", b"application/grpc"), (b"te", b"trailers"), *more]


class Loop(asyncio.SelectorEventLoop):
    """Its time passes when it is told to."""

    now = 0.0

    def time(self) -> float:
        return self.now


class Program:
    """An input as it is read: what is behind its end is 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def over(self) -> bool:
        return self._at >= len(self._data)

    def take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        self._at += size
        return part

    def rest(self) -> bytes:
        return self.take(len(self._data))

    def byte(self) -> int:
        return int.from_bytes(self.take(1), "big")

    def number(self) -> int:
        """Of those where something changes, or any."""
        chosen = self.byte()
        return NUMBERS[chosen] if chosen < len(NUMBERS) else int.from_bytes(self.take(4), "big")


class Called:
    """One stream as the client knows it. resets_before: that it was told of the stream before it opened it."""

    def __init__(self, fields: dict[bytes, bytes], window: int, resets_before: int) -> None:
        self.fields = fields
        self.window = window
        self.body = bytearray()
        self.complete = False
        self.left = False  # the client takes no answer, and the server has read so
        self.provoked = 0  # what the client did that may be answered by a reset
        self.resets_before = resets_before
        self.heads: list[dict[bytes, bytes]] = []
        self.data = bytearray()
        self.ended = False
        self.resets = 0

    @property
    def over(self) -> bool:
        return self.ended or self.left or self.resets > 0

    @property
    def watches(self) -> bool:
        return self.fields.get(b":path") == WATCH


class Client:
    """What was sent and what came back, frame by frame."""

    def __init__(self, header_bytes: int) -> None:
        self.streams: dict[int, Called] = {}
        self.window = DEFAULT_WINDOW
        self.failed = False  # the server has ended the connection for a fault
        self.broken = False  # the server must do so
        self.right = 0  # answers that were compared
        self._header_bytes = header_bytes
        self._sent = b""
        self._preface = False
        self._settled = False
        self._reads = hpack.Decoder(max_header_list_size=OVERSIZE * header_bytes)  # as the server must have read
        self._block = b""
        self._block_of = 0
        self._block_ends = False
        self._stream_window = DEFAULT_WINDOW
        self._frame_bytes = self._next_frame_bytes = FRAME_BYTES
        self._later: list[Callable[[], None]] = []  # what narrows: it holds once the server has read it
        self._tables: deque[int | None] = deque()
        self._pings: deque[bytes] = deque()
        self._resets_before: dict[int, int] = {}
        self._heard = b""
        self._decoder = hpack.Decoder()
        self._first = True
        self._goaway_id = NO_STREAM
        self._last_id = 0

    @property
    def between_frames(self) -> bool:
        return self._settled and not self._sent and not self._block_of

    # -- to the server

    def sent(self, data: bytes) -> None:
        """Before the server reads it."""
        self._sent += data
        if not self._preface:
            if len(self._sent) < len(PREFACE):
                return
            self._preface = True
            self._sent = self._sent[len(PREFACE) :]
        at = 0
        while len(self._sent) - at >= HEADER_BYTES and not self.broken:
            high, low, kind, flags, stream_id = FRAME_HEADER.unpack_from(self._sent, at)
            end = at + HEADER_BYTES + (high << 8 | low)
            if end - at - HEADER_BYTES > FRAME_BYTES:
                self.broken = True
            if end > len(self._sent):
                break
            self._sent_frame(kind, flags, stream_id & NO_STREAM, self._sent[at + HEADER_BYTES : end])
            at = end
        self._sent = self._sent[at:]

    def read(self) -> None:
        """The server has read all that was sent, and what it wrote was heard."""
        for narrow in self._later:
            narrow()
        self._later.clear()
        self._frame_bytes = self._next_frame_bytes

    def _sent_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block_of and (kind != Kind.CONTINUATION or stream_id != self._block_of):
            self.broken = True
            return
        stream = self.streams.get(stream_id)
        match kind:
            case Kind.HEADERS | Kind.DATA:
                if flags & PADDED:
                    if not payload or payload[0] >= len(payload):
                        self.broken = True
                        return
                    payload = payload[1 : len(payload) - payload[0]]
                if kind == Kind.DATA:
                    self._sent_data(stream, stream_id, payload, flags)
                else:
                    self._sent_headers(stream_id, payload, flags)
            case Kind.CONTINUATION:
                self._block += payload
                if not self._block_of or len(self._block) > OVERSIZE * self._header_bytes:
                    self.broken = True
                elif flags & END_HEADERS:
                    self._sent_block()
            case Kind.PRIORITY:
                if len(payload) != 5 or int.from_bytes(payload[:4], "big") & NO_STREAM == stream_id:
                    self._provoke(stream_id)
            case Kind.RST_STREAM if stream is not None and len(payload) == 4:
                self._later.append(lambda: setattr(stream, "left", True))
            case Kind.SETTINGS if stream_id == 0 and not flags & ACK and len(payload) % 6 == 0:
                self._settled = True
                self._sent_settings(payload)
            case Kind.PING if stream_id == 0 and not flags & ACK and len(payload) == 8:
                self._pings.append(payload)
            case Kind.WINDOW_UPDATE if len(payload) == 4:
                more = int.from_bytes(payload, "big") & LARGEST_WINDOW
                if stream_id == 0:
                    self.window += more
                elif stream is not None:
                    stream.window += more

    def _sent_data(self, stream: Called | None, stream_id: int, payload: bytes, flags: int) -> None:
        if stream is None:
            if stream_id < self._last_id:
                self._provoke(stream_id)
        elif stream.complete or stream.left:
            stream.provoked += 1
        else:
            stream.body += payload
            stream.complete = bool(flags & END_STREAM)

    def _provoke(self, stream_id: int) -> None:
        """It may be answered by a reset."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.provoked += 1
        else:
            self._resets_before[stream_id] = self._resets_before.get(stream_id, 0) + 1

    def _sent_headers(self, stream_id: int, payload: bytes, flags: int) -> None:
        if flags & WITH_PRIORITY:
            if len(payload) < 5:
                self.broken = True
                return
            payload = payload[5:]
        self._block, self._block_of, self._block_ends = payload, stream_id, bool(flags & END_STREAM)
        if flags & END_HEADERS:
            self._sent_block()

    def _sent_block(self) -> None:
        stream_id, self._block_of = self._block_of, 0
        try:
            fields = dict(self._reads.decode(self._block, raw=True))
        except (hpack.HPACKError, IndexError):
            self.broken = True
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            stream = Called(fields, self._stream_window, self._resets_before.get(stream_id, 0))
            self.streams[stream_id] = stream
            stream.left = stream_id < self._last_id  # no stream can be opened out of order
            self._last_id = max(self._last_id, stream_id)
        elif stream.complete:
            stream.provoked += 1
        stream.complete = stream.complete or self._block_ends

    def _sent_settings(self, payload: bytes) -> None:
        table = None
        for name, value in SETTING.iter_unpack(payload):
            match name:
                case frames.HEADER_TABLE_SIZE:
                    table = value
                case frames.MAX_FRAME_SIZE if FRAME_BYTES <= value < 1 << 24:
                    self._frame_bytes = max(self._frame_bytes, value)
                    self._next_frame_bytes = value
                case frames.INITIAL_WINDOW_SIZE if value <= LARGEST_WINDOW:
                    self._widen(value - self._stream_window)
                    self._stream_window = value
        self._tables.append(table)

    def _widen(self, more: int) -> None:
        streams = tuple(self.streams.values())

        def apply() -> None:
            for stream in streams:
                stream.window += more

        if more > 0:
            apply()
        else:
            self._later.append(apply)

    def grants(self) -> bytes:
        """All the window that can be."""
        granted = [(0, LARGEST_WINDOW - self.window)]
        granted += [(i, LARGEST_WINDOW - s.window) for i, s in self.streams.items() if not s.over]
        return b"".join(
            frame(Kind.WINDOW_UPDATE, 0, i, min(more, LARGEST_WINDOW).to_bytes(4, "big"))
            for i, more in granted
            if more > 0
        )

    # -- from the server

    def heard(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            assert len(data) - at >= HEADER_BYTES, "wrote a part of a frame"
            high, low, kind, flags, stream_id = FRAME_HEADER.unpack_from(data, at)
            start, length = at + HEADER_BYTES, high << 8 | low
            at = start + length
            assert at <= len(data), "wrote a part of a frame"
            assert length <= self._frame_bytes, f"a frame of {length} bytes"
            assert not self.failed, "a frame after the last GOAWAY"
            self._heard_frame(kind, flags, stream_id, data[start:at])

    def _heard_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        assert kind == Kind.SETTINGS or not self._first, "the first frame is no SETTINGS"
        self._first = False
        assert not self._heard or kind == Kind.CONTINUATION, "a header block is interrupted"
        match kind:
            case Kind.SETTINGS:
                assert stream_id == 0
                assert len(payload) % 6 == 0
                if flags & ACK:
                    assert not payload
                    table = self._tables.popleft()
                    if table is not None:
                        self._decoder.max_allowed_table_size = table
            case Kind.PING:
                assert stream_id == 0
                assert payload == self._pings.popleft() if flags & ACK else payload in (LEAVING, ALIVE)
            case Kind.GOAWAY:
                assert stream_id == 0
                last, error = struct.unpack_from(">II", payload)
                assert last <= self._goaway_id, "GOAWAY takes back what an earlier one refused"
                self._goaway_id = last
                self.failed = error != 0
                payload[8:].decode()
            case Kind.WINDOW_UPDATE:
                assert 0 < int.from_bytes(payload, "big") <= LARGEST_WINDOW
                assert len(payload) == 4
            case Kind.RST_STREAM:
                assert len(payload) == 4
                self._heard_reset(stream_id, int.from_bytes(payload, "big"))
            case Kind.HEADERS | Kind.CONTINUATION | Kind.DATA:
                stream = self.streams[stream_id]
                assert not stream.left, "an answer to a call that was reset"
                assert not stream.ended, "an answer goes on after its end"
                assert not stream.resets, "an answer goes on after its reset"
                if kind == Kind.DATA:
                    self._heard_data(stream, payload)
                else:
                    self._heard += payload
                    if flags & END_HEADERS:
                        block, self._heard = self._heard, b""
                        stream.heads.append(dict(self._decoder.decode(block, raw=True)))
                if flags & END_STREAM:
                    stream.ended = True
                    self._judge(stream)
            case _:
                raise AssertionError(f"a frame of kind {kind}")

    def _heard_data(self, stream: Called, payload: bytes) -> None:
        self.window -= len(payload)
        stream.window -= len(payload)
        assert not payload or (self.window >= 0 and stream.window >= 0), "more DATA than the windows granted"
        assert len(stream.heads) == 1, "DATA outside of an answer"
        stream.data += payload

    def _heard_reset(self, stream_id: int, error: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            assert self._resets_before.get(stream_id), f"RST_STREAM on stream {stream_id}, which nobody opened"
            self._resets_before[stream_id] -= 1
            return
        if stream.resets_before:
            stream.resets_before -= 1
            return
        stream.resets += 1
        allowed = 1 + stream.provoked
        assert stream.resets <= allowed, "a stream is reset twice"
        assert not stream.ended or stream.provoked or error == 0, f"reset with {error} after the answer"

    def _judge(self, stream: Called) -> None:
        """A whole answer."""
        first, last = stream.heads[0], stream.heads[-1]
        if first[b":status"] != b"200":
            assert first[b":status"] in (b"415", b"405"), first
            return
        assert first[b"content-type"] == b"application/grpc", first
        status = int(last[b"grpc-status"])
        if status != 0:
            assert status in tuple(Code), last
            assert len(stream.heads) == 1 or stream.watches, "an error with two heads"
            return
        assert len(stream.heads) == 2, stream.heads
        path = stream.fields[b":path"]
        contents: list[bytes] = []
        data = bytes(stream.data)
        while data:
            zero, length = struct.unpack_from(">BI", data)
            assert zero == 0
            assert len(data) >= 5 + length, "a part of a message"
            contents.append(data[5 : 5 + length])
            data = data[5 + length :]
        answers = [ANSWERS[path](content) for content in contents]
        assert len(answers) == 1 or path == WATCH, f"{len(answers)} messages"
        if path == INFER:
            self._judge_infer(stream, answers[0])

    def _judge_infer(self, stream: Called, answer: Any) -> None:
        assert len(answer.outputs) == len(answer.raw_output_contents)
        found = {
            output.name: (output.datatype, list(output.shape), raw)
            for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
        }
        packed = stream.fields.get(b"grpc-encoding", b"identity")
        expected = EXPECTED.get((packed, bytes(stream.body)))
        if expected is not None:
            self.right += 1
            assert found == expected, (found, expected)


class Sender:
    """Steps of a program as bytes for the connection."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._opened = [1]
        self._next = 1
        self._encoder = hpack.Encoder()

    def bytes_of(self, step: int) -> bytes:
        program = self._program
        match step:
            case Step.CALL:
                return self._call()
            case Step.HEADERS:
                return frame(Kind.HEADERS, program.byte(), self._stream(), self._block(program.byte()))
            case Step.BLOCK:
                return frame(Kind.HEADERS, program.byte(), self._stream(), program.take(program.byte()))
            case Step.DATA:
                return frame(Kind.DATA, program.byte(), self._stream(), self._payload())
            case Step.SETTINGS:
                count = program.byte()
                pairs = [SETTING.pack(program.byte() % 9, program.number()) for _ in range(count % 4)]
                return frame(Kind.SETTINGS, count >> 7, 0, b"".join(pairs))
            case Step.WINDOW_UPDATE:
                return frame(Kind.WINDOW_UPDATE, 0, self._stream(), program.number().to_bytes(4, "big"))
            case Step.RST_STREAM:
                return frame(Kind.RST_STREAM, 0, self._stream(), program.number().to_bytes(4, "big"))
            case Step.PING:
                chosen = program.byte()
                return frame(Kind.PING, chosen & 1, 0, (LEAVING, ALIVE, b"12345678", b"short")[chosen >> 1 & 3])
            case Step.PRIORITY:
                return frame(Kind.PRIORITY, 0, self._stream(), program.number().to_bytes(4, "big") + program.take(1))
            case Step.GOAWAY:
                return frame(Kind.GOAWAY, 0, 0, program.number().to_bytes(4, "big") + bytes(4))
            case Step.CONTINUATION:
                chosen = program.byte()
                block = program.take(chosen >> 1) if chosen & 1 else self._block(chosen >> 1)
                return frame(Kind.CONTINUATION, program.byte(), self._stream(), block)
            case Step.FRAME:
                size, kind = program.byte(), program.byte()
                header = FRAME_HEADER.pack(0, size, kind, program.byte(), self._stream())
                return header + program.take(size)
            case Step.RAW:
                return program.take(program.byte())
        return b""

    def _stream(self) -> int:
        chosen = self._program.byte()
        which, more = chosen & 3, chosen >> 2
        match which:
            case 0:
                return self._opened[-1]
            case 1:
                return self._opened[more % len(self._opened)]
            case 2:
                return self._open()
        return NO_STREAM - (63 - more) if more > 60 else more

    def _open(self, skipped: int = 0) -> int:
        stream_id = self._next + 2 * skipped
        self._next = stream_id + 2
        self._opened.append(stream_id)
        return stream_id

    def _block(self, chosen: int) -> bytes:
        """A valid head, or nearly."""
        more = self._program.byte()
        fields = head(PATHS[chosen % len(PATHS)], MORE[more % len(MORE)])
        if more >= 240:
            del fields[more % len(fields)]
        if chosen & 0x80:
            return bytes(self._encoder.encode(fields))
        return bytes(hpack.Encoder().encode([(n, v, True) for n, v in fields], huffman=bool(chosen & 0x40)))

    def _payload(self) -> bytes:
        program = self._program
        chosen = program.byte()
        more = chosen >> 2
        match chosen & 3:
            case 0:
                return BODIES[more % len(BODIES)][:FRAME_BYTES]
            case 1:
                return bytes(SIZES[more % len(SIZES)])
            case 2:
                return program.take(more)
        body = bytearray(BODIES[more % len(BODIES)][:FRAME_BYTES])
        for _ in range(1 + program.byte() % 4):
            at, value = int.from_bytes(program.take(2), "big"), program.byte()
            if body:
                body[at % len(body)] = value
        return bytes(body)

    def _call(self) -> bytes:
        program = self._program
        block = self._block(program.byte())
        body = BODIES[program.byte() % len(BODIES)]
        form = program.byte()
        stream_id = self._open(form >> 7)
        flags = WITH_PRIORITY if form & 0x08 else 0
        if flags:
            block = b"\0\0\0\0\x10" + block
        if form & 0x10:
            half = len(block) // 2
            whole = [
                frame(Kind.HEADERS, flags, stream_id, block[:half]),
                frame(Kind.CONTINUATION, END_HEADERS, stream_id, block[half:]),
            ]
        else:
            whole = [frame(Kind.HEADERS, flags | END_HEADERS, stream_id, block)]
        size = max(1, len(body) // 2) if form & 0x02 else 16000
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        for number, part in enumerate(parts, 1):
            end = END_STREAM if number == len(parts) and not form & 0x44 else 0
            padding = 7 if form & 0x01 else 0
            payload = bytes([padding]) + part + bytes(padding) if padding else part
            whole += [frame(Kind.DATA, end | (PADDED if padding else 0), stream_id, payload)]
        if form & 0x40:
            trailer = hpack.Encoder().encode([(b"checksum", b"1", True)], huffman=False)
            whole.append(frame(Kind.HEADERS, END_HEADERS | END_STREAM, stream_id, trailer))
        elif form & 0x04 or not parts:
            whole.append(frame(Kind.DATA, END_STREAM, stream_id, b""))
        return b"".join(whole)


class GrpcTarget(Served):
    """right: answers that were compared with what they must be."""

    def __init__(self) -> None:
        self.clock = Loop()
        super().__init__(self.clock)
        ports.INLINE_BYTES = 1 << 30  # type: ignore[misc]
        self.right = 0
        self.port = self.loop.run_until_complete(self._build())
        self.server = self.port._http2

    async def _build(self) -> GrpcServer:
        service = await self._service()
        settings = Settings(model_name="m", model_version="m-v1", model_digest=DIGEST, body_limit_bytes=1 << 20)
        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            return GrpcServer(service, settings, self.limits, listener)

    def one_input(self, data: bytes) -> None:
        """See the module's docstring."""
        self._begin()
        program = Program(data)
        size, mode = max(1, program.byte() ** 2), program.byte()
        client, transport = Client(self.limits.header_bytes), Transport()
        connection = self.server.connection()
        connection.connection_made(transport)
        exchange = Exchange(self, connection, transport, client, size)
        if mode & 1:
            start = PREFACE if mode & 2 else PREFACE + frame(Kind.SETTINGS, 0, 0, b"")
            exchange.send(start + program.rest())
        else:
            exchange.send(PREFACE + frame(Kind.SETTINGS, 0, 0, b""))
            self._run(program, exchange)
        exchange.finish()
        if not transport.closed and not connection.eof_received():
            transport.close()
        self._turn()
        connection.connection_lost(None)
        assert connection.http2._orphans == 0, "a place is kept for ever"
        self.right += client.right
        self._left_nothing()
        self.clock.now += LONGEST_SECONDS  # whatever was still to come
        self._turn()
        self._left_nothing()

    def _begin(self) -> None:
        random.seed(0)
        self.clock.now = 0.0
        self.server._sweeper.cancel()
        self.server._sweep()
        health = self.port._health
        health._serving, health._ended = True, False

    def _run(self, program: Program, exchange: Exchange) -> None:
        sender = Sender(program)
        held = b""
        for _ in range(STEPS):
            if program.over or exchange.over:
                break
            chosen = program.byte()
            step = chosen & 0x0F
            held += sender.bytes_of(step)
            if chosen & HOLD and step < Step.TIME:
                continue
            exchange.send(held, turn=not chosen & RUSH)
            held = b""
            match step:
                case Step.TIME:
                    exchange.wait(SECONDS[program.byte() % len(SECONDS)])
                case Step.SERVER:
                    exchange.act(
                        (self.port.drain, self.server.leave, self.port._health.end_watches)[program.byte() % 3]
                    )
                case Step.PAUSE:
                    exchange.pause(SECONDS[program.byte() % len(SECONDS)])
        exchange.send(held)

    def _left_nothing(self) -> None:
        self._no_faults()
        assert not self.server.connections
        assert self.server.load.streams == 0
        assert self.server.load.held_bytes == 0, self.server.load.held_bytes
        assert not self.port._health._watches


class Exchange:
    """A client and the connection that it has."""

    def __init__(
        self, target: GrpcTarget, connection: Connection, transport: Transport, client: Client, size: int
    ) -> None:
        self._target = target
        self._connection = connection
        self._transport = transport
        self._client = client
        self._size = size

    @property
    def over(self) -> bool:
        """The server has said its last."""
        return self._transport.closed or self._transport.ended

    def send(self, data: bytes, *, turn: bool = True) -> None:
        size = max(self._size, len(data) // PIECES)
        for start in range(0, len(data), size):
            if self.over:
                break
            piece = data[start : start + size]
            self._client.sent(piece)
            self._connection.data_received(piece)
            self._hear()
            self._client.read()
        if turn and data:
            self._target._turn()
            self._hear()

    def wait(self, seconds: float) -> None:
        self._target.clock.now += seconds
        self._target._turn()
        self._hear()

    def act(self, does: Callable[[], None]) -> None:
        does()
        self._target._turn()
        self._hear()

    def pause(self, seconds: float) -> None:
        """The client reads nothing for so long."""
        if not self.over:
            self._connection.pause_writing()
            self.wait(seconds)
            self._connection.resume_writing()

    def finish(self) -> None:
        """All that can be answered now must be."""
        self._target._turn()
        self._hear()
        client = self._client
        if self.over or client.failed:
            return
        assert not client.broken, "what cannot be read is taken for something"
        if not client.between_frames:
            return
        http2 = self._connection.http2
        assert not http2._movable or http2._window <= 0, "an answer waits, and there is window for it"
        for waiting in http2._waiting.values():
            assert waiting.window + http2._stream_window <= 0, "an answer waits, and its window is open"
        self.send(client.grants())
        if not self.over:
            assert not client.failed, "the windows do not hold what was granted"
            for stream_id, stream in client.streams.items():
                waits = stream.complete and not stream.over and not stream.watches
                assert not waits, f"no answer on stream {stream_id}"

    def _hear(self) -> None:
        self._client.heard(bytes(self._transport.written))
        self._transport.written.clear()
        assert self._target.server.load.held_bytes >= 0, "bytes are given back twice"


def seeds() -> list[bytes]:
    """Programs in which every step occurs, and one that is bytes; the byte for pieces is put before each."""
    call = [bytes([Step.CALL, path, 0, body, form]) for path, body, form in _calls()]
    small = bytes([Step.SETTINGS, 1, frames.INITIAL_WINDOW_SIZE, 4])
    wide = bytes([Step.WINDOW_UPDATE, 0, 9, Step.WINDOW_UPDATE, 3, 9, Step.SETTINGS, 1, frames.INITIAL_WINDOW_SIZE, 12])
    watch = bytes([Step.CALL, 7, 0, 7, 0])
    programs = [
        *call,
        b"".join(call),
        b"".join(bytes([c[0] | HOLD]) + c[1:] for c in call),
        b"".join(bytes([c[0] | RUSH]) + c[1:] for c in call),
        *(bytes([Step.CALL, 0, more, body, 0]) for more in range(len(MORE)) for body in (0, 5, 6)),
        *(bytes([Step.CALL, 0x80, 0, body, 0]) * 3 for body in range(len(BODIES))),
        small + call[0] * 3 + wide,
        small + bytes([Step.CALL, 0, 0, 3, 0]) * 3 + wide + bytes([Step.TIME, 4]),
        bytes([Step.CALL, 0, 0, 3, 0]) * 40,
        small + watch * 2 + bytes([Step.SERVER, 0, Step.SERVER, 2]) + wide,
        bytes([Step.SETTINGS, 1, frames.INITIAL_WINDOW_SIZE, 0]) + watch + bytes([Step.SERVER, 2, 5, 0, 2]) + wide,
        watch + bytes([Step.RST_STREAM, 0, 8]) + watch + bytes([Step.SERVER, 1, Step.PING, 1]) + call[0],
        bytes([Step.HEADERS, END_HEADERS, 2, 0, 0]) + bytes([Step.DATA, 0, 0, 25]) * 20 + bytes([Step.TIME, 4]),
        bytes([Step.HEADERS, END_HEADERS, 2, 0, 0, Step.DATA, 0, 0, 0, Step.PAUSE, 4, Step.TIME, 4]),
        bytes([Step.HEADERS, 0, 2, 0, 0, Step.CONTINUATION, 3, 0x40, 0, 0, Step.CONTINUATION, 1, END_HEADERS, 0]),
        bytes([Step.BLOCK, END_HEADERS, 2, 3, 0x82, 0x87, 0x84, Step.PRIORITY, 0, 1, 0, Step.PRIORITY, 2, 0]),
        bytes([Step.FRAME, 4, 99, 0, 0]) + b"abcd" + bytes([Step.GOAWAY, 0]) + call[0],
        bytes([Step.SETTINGS, 3, 1, 0, 5, 10, 4, 8]) + call[0] + bytes([Step.SETTINGS, 1, 1, 6]) + call[1],
        bytes([Step.DATA, END_STREAM, 0, 3, 1, 0, 20, 7, 0, 30, 9, Step.RAW, 4]) + b"abcd",
    ]
    wire = b"".join(Sender(Program(part[1:])).bytes_of(Step.CALL) for part in call[:4])
    return [*(b"\0" + program for program in programs), b"\1" + wire]


def _calls() -> list[tuple[int, int, int]]:
    """(path, body, form)"""
    infers = [(0, body, form) for body in range(7) for form in (0, 0x5F, 0xA2)]
    return infers + [(path, body, 4) for path in range(1, len(PATHS)) for body in (7, 10, 11)]
