"""The endpoints: from a request to what answers it.

Paths are looked up as the bytes that came, without parsing, because nearly every request asks for the same one;
only a path that is not found that way is decoded. An infer request is decoded and checked first, in every case:
the client's mistakes are answered here, reach neither the queue nor the canary, and count for nobody. Then it is
the canary's turn or the model's.

A request that names a version asks for this model and no other, so it is never the canary's and stands outside
the comparison: it has no part in the share and none in the evidence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec
import orjson
from steeltown.contract.evidence import EVIDENCE_PATH
from steeltown.contract.histogram import bucket
from steeltown_tensors import Array

from . import __version__, log
from .budget import Budget, Busy
from .canary import CanaryAnswer
from .counters import Counters, WindowCounts
from .encoding import LEAST_BYTES, SUPPORTED, Encoder, UnsupportedEncoding, decode, negotiate
from .engine import Engine, RunStatistics
from .extensions import SUPPORTED_EXTENSIONS, Extensions
from .http import JSON, OCTETS, TEXT, Answer, Answering, Request, error_answer
from .metrics import Metrics
from .pairs import Pair
from .request import Call, RequestDecoder
from .response import ResponseEncoder, non_finite
from .router import DIGEST_HEADER, NON_FINITE_HEADER, Router
from .signature import BadRequest, Signature, TooLarge
from .unfolding import Held, Unfolder
from .workers import Siblings

Endpoint = Callable[[Answering, Request], None]

PLATFORM: Final = "onnx_onnxv1"
INDEX_BYTES: Final = 64 << 10
INLINE_BYTES: Final = 64 << 10
"""A larger answer is compressed in a thread: at 100 MB/s it would hold up everybody else."""


class InferJob:
    """An infer request from decoding to its answer. counts: whether the live model is judged by it."""

    __slots__ = ("call", "counted_in", "counts", "exchange", "pair", "request", "service", "started", "submitted")

    def __init__(
        self,
        service: Service,
        exchange: Answering,
        request: Request,
        call: Call,
        counted_in: WindowCounts,
        started: int,
    ) -> None:
        self.service = service
        self.exchange = exchange
        self.request = request
        self.call = call
        self.counted_in = counted_in
        self.started = started
        self.submitted = started
        self.counts = True
        self.pair: Pair | None = None

    def finish(self, outputs: Sequence[Array], finite: bool) -> None:
        call = self.call
        bad = () if finite else non_finite(call.outputs, outputs)
        for name, binary in zip(call.outputs, call.binary, strict=True) if bad else ():
            if name in bad and not binary:
                self.fail(
                    f"output {name!r} contains NaN or infinity, which JSON cannot represent: set binary_data to true"
                )
                return
        body, json_length = self.service.encoder.encode(call, outputs)
        microseconds = (time.perf_counter_ns() - self.started) // 1000
        if bad:
            self._count_error("non_finite", f"NaN or infinity in output {', '.join(map(repr, bad))}")
        else:
            index = bucket(microseconds)
            if self.counts:
                self.counted_in.live.ok(index)
            self.service.counters.count_latency(microseconds, index)
        if self.pair is not None:
            self.pair.live(body, json_length)
        headers = self.service.digest_header
        if json_length is None:
            self._answer(Answer(200, body, JSON, headers))
            return
        headers += b"inference-header-content-length: %d\r\n" % json_length
        if bad:
            headers += b"%b: %b\r\n" % (NON_FINITE_HEADER, orjson.dumps(bad))
        self._answer(Answer(200, body, OCTETS, headers))

    def fail(self, message: str) -> None:
        self._count_error("failed", message)
        self._answer(error_answer(500, message, self.service.digest_header))

    def late(self, message: str) -> None:
        self._count_error("late", message)
        self._answer(error_answer(504, message, self.service.digest_header))

    def shed(self, engine: Engine) -> None:
        """Refused for those that are accepted: they keep their latency."""
        message = f"the server is busy: {engine.queue}; the limit is {engine.max_queue_seconds:g} s; try again"
        self._count_error("busy", message)
        self._answer(error_answer(503, message, self.service.digest_header + b"retry-after: 1\r\n"))

    def _count_error(self, kind: str, text: str) -> None:
        if self.counts:
            self.counted_in.live.error(kind, text)

    def _answer(self, answer: Answer) -> None:
        self.service.counters.count_answer(answer.status)
        accepted = self.request.headers.get(b"accept-encoding")
        if accepted is None or len(answer.body) < LEAST_BYTES or (chosen := negotiate(accepted)) is None:
            self.exchange.answer(answer)
        elif len(answer.body) < INLINE_BYTES:
            self.exchange.answer(_encoded(answer, *chosen))
        else:
            work = asyncio.get_running_loop().run_in_executor(None, _encoded, answer, *chosen)
            work.add_done_callback(lambda encoded: self.exchange.answer(encoded.result()))

    # -- router.HandedOver

    def answer_from_canary(self, answer: CanaryAnswer) -> None:
        headers = b"%b: %b\r\n" % (DIGEST_HEADER, answer.headers[DIGEST_HEADER])
        json_length = answer.headers.get(b"inference-header-content-length")
        if json_length is not None:
            headers += b"inference-header-content-length: %b\r\n" % json_length
        self._answer(Answer(200, answer.body, answer.headers.get(b"content-type", JSON), headers))

    def answer_live(self) -> None:
        """The canary failed. Its count says so; the live model is not judged by a request it got late."""
        self.counts = False
        self.started = time.perf_counter_ns()
        self.service.engine.submit(self)


class Service:
    """http.Handler for one model."""

    def __init__(
        self,
        *,
        name: str,
        version: str,
        signature: Signature,
        decoder: RequestDecoder,
        engine: Engine,
        router: Router,
        counters: Counters,
        body_limit_bytes: int,
        stuck: Callable[[], bool] = lambda: False,
        budget: Budget | None = None,
    ) -> None:
        """stuck: whether the model no longer runs, so that only a new process can help. budget: None: its own."""
        self.encoder = ResponseEncoder(signature, name, version)
        self.engine = engine
        self.counters = counters
        self.ready = True
        self.digest_header = b"%b: %b\r\n" % (DIGEST_HEADER, counters.digest.encode())
        self._name = name
        self._version = version
        self._signature = signature
        self._decoder = decoder
        self._router = router
        self.budget = budget or Budget(limit_bytes=4 * body_limit_bytes, most_connections=1)
        self.unfolder = Unfolder(self.budget, body_limit_bytes)
        self._stuck = stuck
        labels = {"model": name, "version": version, "digest": counters.digest}
        self._metrics = Metrics(labels, lambda: self.ready)
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self.siblings: Siblings | None = None
        self._endpoints = self._table()

    def handle(self, exchange: Answering, request: Request) -> None:
        try:
            endpoint = self._endpoints.get(request.target) or self._resolve(request.target)
            endpoint(exchange, request)
        except Exception as error:
            log.error("cannot handle a request", path=request.target.decode("latin-1"), error=repr(error))
            exchange.answer(error_answer(500, "internal error"))

    # -- paths

    def _table(self) -> Mapping[bytes, Endpoint]:
        model = f"/v2/models/{self._name}"
        versioned = f"{model}/versions/{self._version}"
        metadata = self._model_metadata()
        table: dict[str, Endpoint] = {
            "/v2": _get(self._server_metadata),
            "/v2/health/live": _get(self._liveness),
            "/v2/health/ready": _get(lambda: self._readiness({"ready": True})),
            EVIDENCE_PATH: self._counted(lambda counters, done, pending: _json(counters.evidence().to_json())),
            "/metrics": self._counted(lambda *counts: Answer(200, self._metrics.render(*counts), TEXT)),
            f"{model}/infer": _post(self._infer),
            f"{versioned}/infer": _post(self._infer_version),
        }
        batch_rows = self.engine.max_batch_rows if self.engine.batches else 0
        extensions = Extensions(self._name, self._version, self._signature, batch_rows)
        statistics = self._counted(lambda counters, done, pending: _json(extensions.statistics(counters, done)))
        table["/v2/models/stats"] = statistics
        table["/v2/repository/index"] = _post(self._index)
        for verb in ("load", "unload"):
            table[f"/v2/repository/models/{self._name}/{verb}"] = _post(_immutable)
        for prefix in (model, versioned):
            table[prefix] = _get(lambda: _json(metadata))
            table[f"{prefix}/ready"] = _get(lambda: self._readiness({"name": self._name, "ready": True}))
            table[f"{prefix}/stats"] = statistics
            table[f"{prefix}/config"] = _get(lambda: _json(extensions.config()))
        return {path.encode(): endpoint for path, endpoint in table.items()}

    def _resolve(self, target: bytes) -> Endpoint:
        segments = _segments(target)
        if not any(b"/" in segment for segment in segments):
            path = b"/".join(segments)
            if path.startswith(b"/v2/"):
                path = path.removesuffix(b"/")
            endpoint = self._endpoints.get(path)
            if endpoint is not None:
                # As it is written here, for a canary of another version of the server too.
                return lambda exchange, request: endpoint(exchange, request._replace(target=path))
        message = self._unknown([_show(segment) for segment in segments], _show(target))
        return lambda exchange, request: exchange.answer(error_answer(404, message))

    def _unknown(self, parts: Sequence[str], target: str) -> str:
        if list(parts[1:3]) == ["v2", "models"] and len(parts) > 3:
            if parts[3] != self._name:
                return f"model {parts[3]!r} not found: this server serves {self._name!r}"
            if len(parts) > 5 and parts[4] == "versions" and parts[5] != self._version:
                return f"version {parts[5]!r} of model {self._name!r} not found: this server serves {self._version!r}"
        return f"path not found: {target.partition('?')[0]}"

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- what was counted, here and by siblings

    def told(self) -> dict[str, Any]:
        """For a sibling that answers for all."""
        return {"counters": self.counters.told(), "done": self.engine.done.told(), "pending": self.engine.pending}

    def _counted(self, answer: Callable[[Counters, RunStatistics, int], Answer]) -> Endpoint:
        def now() -> Answer:
            return answer(self.counters, self.engine.done, self.engine.pending)

        def endpoint(exchange: Answering, request: Request) -> None:
            if self.siblings is None or request.method not in (b"GET", b"HEAD"):
                _get(now)(exchange, request)
                return
            self._start(for_all(exchange, self.siblings))

        async def for_all(exchange: Answering, siblings: Siblings) -> None:
            try:
                others = await siblings.ask()
                if not others:
                    exchange.answer(now())
                    return
                counters = self.counters.with_told([o["counters"] for o in others])
                done = self.engine.done.with_told([o["done"] for o in others])
                exchange.answer(answer(counters, done, self.engine.pending + sum(o["pending"] for o in others)))
            except Exception as error:
                log.error("cannot collect the counts of all workers", error=repr(error))
                exchange.answer(error_answer(500, "internal error"))

        return endpoint

    # -- health and metadata

    def _liveness(self) -> Answer:
        if self._stuck():
            return error_answer(503, "a run of the model does not end: the process must be restarted")
        return _json({"live": True})

    def _readiness(self, body: dict[str, Any]) -> Answer:
        return _json(body) if self.ready else error_answer(503, "the server is draining")

    def _server_metadata(self) -> Answer:
        return _json({"name": "steeltown-server", "version": __version__, "extensions": SUPPORTED_EXTENSIONS})

    def _model_metadata(self) -> dict[str, Any]:
        return {
            "name": self._name,
            "versions": [self._version],
            "platform": PLATFORM,
            "inputs": [s.metadata() for s in self._signature.inputs.values()],
            "outputs": [s.metadata() for s in self._signature.outputs.values()],
        }

    def _index(self, exchange: Answering, request: Request) -> None:
        """What is here; `{"ready": true}` asks for what is ready."""
        try:
            if b"content-encoding" in request.headers:
                request = request._replace(body=decode(request.headers[b"content-encoding"], request.body, INDEX_BYTES))
            body = _IndexRequest() if not request.body else _decode_index_request(request.body)
        except (BadRequest, UnsupportedEncoding, TooLarge) as error:
            exchange.answer(_refusal(error))
            return
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            exchange.answer(error_answer(400, f"invalid request: {error}"))
            return
        state = "READY" if self.ready else "UNAVAILABLE"
        reason = "" if self.ready else "the server is draining"
        entry = {"name": self._name, "version": self._version, "state": state, "reason": reason}
        exchange.answer(_json([] if body.ready and not self.ready else [entry]))

    # -- inference

    def _infer(self, exchange: Answering, request: Request) -> None:
        if b"content-encoding" in request.headers:
            self._start(self._unfold(exchange, request, self._infer))
            return
        job = self._job(exchange, request)
        if job is None:
            return
        router = self._router
        if router.active:
            if router.takes_next():
                router.hand_over(job, job.request)
                return
            if router.mirrors_next():
                job.pair = router.copy(job.request, job.counted_in)
        self._submit(job)

    def _submit(self, job: InferJob) -> None:
        if self.engine.overloaded:
            job.shed(self.engine)
        else:
            self.engine.submit(job)

    def _infer_version(self, exchange: Answering, request: Request) -> None:
        if b"content-encoding" in request.headers:
            self._start(self._unfold(exchange, request, self._infer_version))
            return
        job = self._job(exchange, request)
        if job is not None:
            job.counts = False
            self._submit(job)

    def _job(self, exchange: Answering, request: Request) -> InferJob | None:
        """None if the request was the client's mistake and is answered already."""
        started = time.perf_counter_ns()
        try:
            call = self._decoder.decode(request.body, _json_length(request.headers))
        except (BadRequest, TooLarge) as error:
            self._refuse(exchange, _refusal(error))
            return None
        return InferJob(self, exchange, request, call, self.counters.current, started)

    async def _unfold(self, exchange: Answering, request: Request, then: Endpoint) -> None:
        headers = dict(request.headers)
        try:
            body = await self.unfolder.unfold(headers.pop(b"content-encoding"), request.body)
        except (BadRequest, UnsupportedEncoding, TooLarge, Busy) as error:
            self._refuse(exchange, _refusal(error))
            return
        except Exception as error:
            log.error("cannot decompress a body", error=repr(error))
            exchange.answer(error_answer(500, "internal error"))
            return
        held = Held(self.budget, exchange, len(body))
        try:
            then(held, request._replace(headers=headers, body=body))
        except Exception as error:
            log.error("cannot handle a request", path=_show(request.target), error=repr(error))
            held.answer(error_answer(500, "internal error"))

    def _refuse(self, exchange: Answering, answer: Answer) -> None:
        self.counters.count_answer(answer.status)
        exchange.answer(answer._replace(headers=self.digest_header + answer.headers))


def _refusal(error: BadRequest | UnsupportedEncoding | TooLarge | Busy) -> Answer:
    match error:
        case Busy():
            return error_answer(503, f"the server is busy: {error}; try again", b"retry-after: 1\r\n")
        case BadRequest():
            return error_answer(400, str(error))
        case TooLarge():
            return error_answer(413, str(error))
        case UnsupportedEncoding():
            return error_answer(415, str(error), b"accept-encoding: %b\r\n" % SUPPORTED.encode())


def _segments(target: bytes) -> list[bytes]:
    """Of a path, each decoded by itself: an encoded slash is part of a name, and must not lead past a proxy's rules."""
    raw = target.partition(b"?")[0]
    if raw.startswith((b"http://", b"https://")):  # the absolute form, RFC 9112, 3.2.2
        raw = b"/" + raw.split(b"/", 3)[3] if raw.count(b"/") > 2 else b"/"
    return [unquote_to_bytes(segment) for segment in raw.split(b"/")]


class _IndexRequest(msgspec.Struct):
    ready: bool = False


_decode_index_request = msgspec.json.Decoder(_IndexRequest).decode


def _immutable(exchange: Answering, request: Request) -> None:
    message = "loading and unloading are not supported: change the MLModel to serve another version"
    exchange.answer(error_answer(501, message))


def _encoded(answer: Answer, name: bytes, encode: Encoder) -> Answer:
    headers = b"%bcontent-encoding: %b\r\nvary: accept-encoding\r\n" % (answer.headers, name)
    return answer._replace(body=encode(answer.body), headers=headers)


def _get(answer: Callable[[], Answer]) -> Endpoint:
    def endpoint(exchange: Answering, request: Request) -> None:
        if request.method in (b"GET", b"HEAD"):
            exchange.answer(answer())
        else:
            exchange.answer(_wrong_method(request, b"GET, HEAD"))

    return endpoint


def _post(handle: Endpoint) -> Endpoint:
    def endpoint(exchange: Answering, request: Request) -> None:
        if request.method == b"POST":
            handle(exchange, request)
        else:
            exchange.answer(_wrong_method(request, b"POST"))

    return endpoint


def _wrong_method(request: Request, allowed: bytes) -> Answer:
    message = f"{_show(request.target)}: expected method {allowed.decode()}, got {_show(request.method)}"
    return error_answer(405, message, b"allow: %b\r\n" % allowed)


def _json(body: Any) -> Answer:
    return Answer(200, orjson.dumps(body))


def _json_length(headers: Mapping[bytes, bytes]) -> int | None:
    text = headers.get(b"inference-header-content-length")
    if text is None:
        return None
    if not text.isdigit():
        raise BadRequest(f"invalid Inference-Header-Content-Length {_show(text)}: must be a number of bytes")
    return int(text)


def _show(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
