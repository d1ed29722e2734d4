"""The endpoints: from a request to what answers it.

Paths are looked up as the bytes that came, without parsing, because nearly every request asks for the same one;
only a path that is not found that way is decoded. An infer request is decoded and checked first, in every case:
the client's mistakes are answered here, reach neither the queue nor the canary, and count for nobody. Then it is
the canary's turn or the model's.

A request that names a version asks for this model and no other, so it is never the canary's and stands outside
the comparison: it has no part in the share and none in the evidence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import orjson
from steeltown.contract.evidence import EVIDENCE_PATH

from . import __version__, log
from .canary import CanaryAnswer
from .engine import Engine
from .http import JSON, OCTETS, TEXT, Answer, Exchange, Request, error_answer
from .metrics import Metrics
from .request import Call, RequestDecoder
from .response import ResponseEncoder, non_finite
from .router import DIGEST_HEADER, NON_FINITE_HEADER, Router
from .signature import Array, BadRequest, Signature
from .tally import Ledger, Tally

Endpoint = Callable[[Exchange, Request], None]

PLATFORM: Final = "onnx_onnxv1"
EXTENSIONS: Final = ("binary_tensor_data",)


class InferJob:
    """An infer request from decoding to its answer. counts: whether the live model is judged by it."""

    __slots__ = ("call", "counts", "exchange", "service", "started", "tally")

    def __init__(self, service: Service, exchange: Exchange, call: Call, tally: Tally, started: int) -> None:
        self.service = service
        self.exchange = exchange
        self.call = call
        self.tally = tally
        self.started = started
        self.counts = True

    def finish(self, outputs: Sequence[Array], finite: bool) -> None:
        call = self.call
        bad = () if finite else non_finite(call.outputs, outputs)
        for name, binary in zip(call.outputs, call.binary, strict=True) if bad else ():
            if name in bad and not binary:
                self.fail(
                    f"output {name!r} holds NaN or infinity, which JSON cannot carry: ask for it with binary_data true"
                )
                return
        body, json_length = self.service.encoder.encode(call, outputs)
        microseconds = (time.perf_counter_ns() - self.started) // 1000
        if bad:
            self._count_error()
        else:
            if self.counts:
                self.tally.live.ok(microseconds)
            self.service.ledger.count_latency(microseconds)
        headers = self.service.digest_header
        if json_length is None:
            self._answer(Answer(200, body, JSON, headers))
            return
        headers += b"inference-header-content-length: %d\r\n" % json_length
        if bad:
            headers += b"%b: %b\r\n" % (NON_FINITE_HEADER, orjson.dumps(bad))
        self._answer(Answer(200, body, OCTETS, headers))

    def fail(self, message: str) -> None:
        self._count_error()
        self._answer(error_answer(500, message, self.service.digest_header))

    def _count_error(self) -> None:
        if self.counts:
            self.tally.live.error()

    def _answer(self, answer: Answer) -> None:
        self.service.ledger.count_answer(answer.status)
        self.exchange.answer(answer)

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
        ledger: Ledger,
    ) -> None:
        self.encoder = ResponseEncoder(signature, name, version)
        self.engine = engine
        self.ledger = ledger
        self.ready = True
        self.digest_header = b"%b: %b\r\n" % (DIGEST_HEADER, ledger.digest.encode())
        self._name = name
        self._version = version
        self._signature = signature
        self._decoder = decoder
        self._router = router
        labels = {"model": name, "version": version, "digest": ledger.digest}
        self._metrics = Metrics(labels, ledger, engine, lambda: self.ready)
        self._endpoints = self._table()

    def handle(self, exchange: Exchange, request: Request) -> None:
        try:
            endpoint = self._endpoints.get(request.target) or self._resolve(request.target)
            endpoint(exchange, request)
        except Exception as error:
            log.error("a request could not be handled", path=request.target.decode("latin-1"), error=repr(error))
            exchange.answer(error_answer(500, "internal error"))

    # -- paths

    def _table(self) -> Mapping[bytes, Endpoint]:
        model = f"/v2/models/{self._name}"
        versioned = f"{model}/versions/{self._version}"
        metadata = self._model_metadata()
        table: dict[str, Endpoint] = {
            "/v2": _get(self._server_metadata),
            "/v2/": _get(self._server_metadata),
            "/v2/health/live": _get(lambda: _json({"live": True})),
            "/v2/health/ready": _get(lambda: self._readiness({"ready": True})),
            EVIDENCE_PATH: _get(lambda: _json(self.ledger.evidence().to_json())),
            "/metrics": _get(lambda: Answer(200, self._metrics.render(), TEXT)),
            f"{model}/infer": _post(self._infer),
            f"{versioned}/infer": _post(self._infer_version),
        }
        for prefix in (model, versioned):
            table[prefix] = _get(lambda: _json(metadata))
            table[f"{prefix}/ready"] = _get(lambda: self._readiness({"name": self._name, "ready": True}))
        return {path.encode(): endpoint for path, endpoint in table.items()}

    def _resolve(self, target: bytes) -> Endpoint:
        path = unquote_to_bytes(target.partition(b"?")[0])
        endpoint = self._endpoints.get(path)
        if endpoint is not None:
            return endpoint
        message = self._unknown(path.decode("utf-8", "replace"))
        return lambda exchange, request: exchange.answer(error_answer(404, message))

    def _unknown(self, path: str) -> str:
        parts = path.split("/")
        if parts[1:3] == ["v2", "models"] and len(parts) > 3:
            if parts[3] != self._name:
                return f"model {parts[3]!r} is not here, this server has {self._name!r}"
            if len(parts) > 5 and parts[4] == "versions" and parts[5] != self._version:
                return f"model {self._name!r} has no version {parts[5]!r} here, this server has {self._version!r}"
        return f"no such path: {path}"

    # -- health and metadata

    def _readiness(self, body: dict[str, Any]) -> Answer:
        return _json(body) if self.ready else error_answer(503, "the server is draining")

    def _server_metadata(self) -> Answer:
        return _json({"name": "steeltown-server", "version": __version__, "extensions": EXTENSIONS})

    def _model_metadata(self) -> dict[str, Any]:
        return {
            "name": self._name,
            "versions": [self._version],
            "platform": PLATFORM,
            "inputs": [s.metadata() for s in self._signature.inputs.values()],
            "outputs": [s.metadata() for s in self._signature.outputs.values()],
        }

    # -- inference

    def _infer(self, exchange: Exchange, request: Request) -> None:
        job = self._job(exchange, request)
        if job is None:
            return
        if self._router.weight and self._router.takes_next():
            self._router.hand_over(job, request)
        else:
            self.engine.submit(job)

    def _infer_version(self, exchange: Exchange, request: Request) -> None:
        job = self._job(exchange, request)
        if job is not None:
            job.counts = False
            self.engine.submit(job)

    def _job(self, exchange: Exchange, request: Request) -> InferJob | None:
        """None if the request was the client's mistake and is answered already."""
        started = time.perf_counter_ns()
        headers = request.headers
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            self._refuse(
                exchange, 415, f"content-encoding {_show(headers[b'content-encoding'])} is not supported: send identity"
            )
            return None
        try:
            call = self._decoder.decode(request.body, _json_length(headers))
        except BadRequest as error:
            self._refuse(exchange, 400, str(error))
            return None
        return InferJob(self, exchange, call, self.ledger.current, started)

    def _refuse(self, exchange: Exchange, status: int, message: str) -> None:
        self.ledger.count_answer(status)
        exchange.answer(error_answer(status, message, self.digest_header))


def _get(answer: Callable[[], Answer]) -> Endpoint:
    def endpoint(exchange: Exchange, request: Request) -> None:
        if request.method in (b"GET", b"HEAD"):
            exchange.answer(answer())
        else:
            exchange.answer(_wrong_method(request, b"GET, HEAD"))

    return endpoint


def _post(handle: Endpoint) -> Endpoint:
    def endpoint(exchange: Exchange, request: Request) -> None:
        if request.method == b"POST":
            handle(exchange, request)
        else:
            exchange.answer(_wrong_method(request, b"POST"))

    return endpoint


def _wrong_method(request: Request, allowed: bytes) -> Answer:
    message = f"{_show(request.target)} expects {allowed.decode()}, got {_show(request.method)}"
    return error_answer(405, message, b"allow: %b\r\n" % allowed)


def _json(body: Any) -> Answer:
    return Answer(200, orjson.dumps(body))


def _json_length(headers: Mapping[bytes, bytes]) -> int | None:
    text = headers.get(b"inference-header-content-length")
    if text is None:
        return None
    if not text.isdigit():
        raise BadRequest(f"Inference-Header-Content-Length must be a number of bytes, got {_show(text)}")
    return int(text)


def _show(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
