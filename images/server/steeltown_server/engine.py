"""Runs the model: many requests in one run where that is safe, beside the event loop where it takes long.

Requests that arrive in one turn of the event loop run together (no timer, so an idle server adds no delay): the
first one schedules `_flush` for the end of the turn, and what is pending then is taken by groups of equal shape.
A model that is slow and gains from batches can be told to wait for more rows first, for a bounded time.
A request alone runs alone, and on the only connection there is it runs at once. If a joint run fails, each of its
requests runs again by itself, so one request can never fail another.

Runs that are expected to stay under a millisecond happen inline, since a thread costs more than they do; longer
ones go to the one worker thread (onnxruntime releases the GIL), and health checks stay quick. While the worker is
busy, requests gather and form the next batch. A model whose runs may take as long as a client likes never runs inline.

Runs have a deadline (`deadline`). What is behind a run that takes unusually long is told so at once, or when it has
waited as long as a run may take, instead of waiting for its client's patience to end.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from steeltown.contract.histogram import bucket
from steeltown_tensors import Array

from . import log
from .counters import added
from .deadline import RunTooLong
from .model import Model
from .request import Call
from .response import all_finite

INLINE_SECONDS: Final = 0.001
SMOOTHING: Final = 0.1
EXACT_ROWS: Final = 1024
UNUSUAL: Final = 10
"""A run that takes so many times as long as the last ones did: nobody can tell when it ends."""


class Job(Protocol):
    """A call that waits for its outputs. Exactly one of the methods is called, on the event loop.

    submitted: perf_counter_ns of the submission, set by the engine.
    """

    call: Call
    submitted: int

    def finish(self, outputs: Sequence[Array], finite: bool) -> None:
        """finite: no output of the run holds NaN or infinity (if False, this job's own may still be clean)."""

    def fail(self, message: str) -> None:
        """The model could not run; the message is onnxruntime's."""

    def late(self, message: str) -> None:
        """There is no answer in time."""


class _Outcome:
    """late: the error is that of a run that was ended at its deadline."""

    __slots__ = ("error", "finite", "job", "late", "outputs")

    def __init__(
        self, job: Job, outputs: Sequence[Array] = (), finite: bool = True, error: str = "", late: bool = False
    ) -> None:
        self.job = job
        self.outputs = outputs
        self.finite = finite
        self.error = error
        self.late = late


class _Run(NamedTuple):
    """started, ended: perf_counter_ns."""

    outcomes: list[_Outcome]
    started: int
    ended: int


class RunStatistics:
    """Over the life of the process.

    batches: rows of a run, above 1024 rounded down to a power of two -> (runs, nanoseconds).
    waits: log-linear bucket of microseconds -> requests.
    """

    __slots__ = ("batches", "jobs", "last_run", "queue_nanoseconds", "rows", "run_nanoseconds", "runs", "waits")

    def __init__(self) -> None:
        self.runs = 0
        self.rows = 0
        self.jobs = 0
        self.run_nanoseconds = 0
        self.queue_nanoseconds = 0
        self.last_run = 0  # perf_counter_ns of its end
        self.batches: dict[int, tuple[int, int]] = {}
        self.waits: dict[int, int] = {}

    def add(self, run: _Run, rows: int) -> None:
        took = run.ended - run.started
        self.runs += 1
        self.rows += rows
        self.jobs += len(run.outcomes)
        self.run_nanoseconds += took
        self.last_run = run.ended
        size = rows if rows <= EXACT_ROWS else 1 << (rows.bit_length() - 1)
        runs, nanoseconds = self.batches.get(size, (0, 0))
        self.batches[size] = (runs + 1, nanoseconds + took)
        waits = self.waits
        for outcome in run.outcomes:
            waited = run.started - outcome.job.submitted
            self.queue_nanoseconds += waited
            index = bucket(waited // 1000)
            waits[index] = waits.get(index, 0) + 1

    # Between workers, as in counters.Counters

    def told(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def with_told(self, others: Sequence[Mapping[str, Any]]) -> RunStatistics:
        both = RunStatistics()
        for name in ("jobs", "queue_nanoseconds", "rows", "run_nanoseconds", "runs"):
            setattr(both, name, getattr(self, name) + sum(o[name] for o in others))
        both.last_run = max(self.last_run, *(o["last_run"] for o in others))  # one clock for all processes
        both.waits = added(int, self.waits, *(o["waits"] for o in others))
        for part in (self.batches, *(o["batches"] for o in others)):
            for size, (runs, nanoseconds) in part.items():
                before = both.batches.get(int(size), (0, 0))
                both.batches[int(size)] = (before[0] + runs, before[1] + nanoseconds)
        return both


class Engine:
    """done: what the runs so far were like, for metrics and statistics."""

    def __init__(
        self,
        model: Model,
        *,
        max_batch_rows: int,
        run_seconds: float,
        batches: bool = True,
        max_queue_seconds: float = 60.0,
        batch_wait_seconds: float = 0.0,
        inline: bool = True,
        longest_wait_seconds: float = 60.0,
    ) -> None:
        """inline: whether short runs may happen on the event loop. longest_wait_seconds: behind a run that takes too
        long."""
        self._model = model
        self.max_batch_rows = max_batch_rows
        self.batches = batches
        self._batch_wait_seconds = batch_wait_seconds if batches else 0.0
        self._pending: deque[Job] = deque()
        self._pending_rows = 0
        self._gathering: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._inline_seconds = INLINE_SECONDS if inline else 0.0
        self._longest_wait_seconds = longest_wait_seconds
        self._beside: list[Job] = []  # in the worker thread
        self._beside_since = 0.0
        self._loop = asyncio.get_running_loop()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="onnxruntime")
        self._seconds_per_run = run_seconds
        self._seconds_per_row = 0.0
        self._seconds_per_job = run_seconds
        self.max_queue_seconds = max_queue_seconds
        self.alone: Callable[[], bool] = lambda: False
        self.done = RunStatistics()

    @property
    def pending(self) -> int:
        return len(self._pending)

    @property
    def wait_seconds(self) -> float:
        """How long a request that comes now will wait, as far as the last runs tell."""
        return len(self._pending) * self._seconds_per_job

    @property
    def queue(self) -> str:
        """For a person: what a request that comes now would wait behind."""
        if self._beside and self._beside_seconds > self.max_queue_seconds:
            return f"a run of the model has taken {self._beside_seconds:.1f} s and has not ended"
        return f"{self.pending} requests are queued, about {self.wait_seconds:.1f} s"

    @property
    def overloaded(self) -> bool:
        """Whether it is kinder to refuse a request than to let it and all behind it wait."""
        if self._beside and self._beside_seconds > max(self.max_queue_seconds, UNUSUAL * self._seconds_per_run):
            return True
        return self.wait_seconds > self.max_queue_seconds

    @property
    def _beside_seconds(self) -> float:
        return self._loop.time() - self._beside_since

    def submit(self, job: Job) -> None:
        """Answers later; or within this call, if nobody else can come meanwhile and the run is short."""
        job.submitted = time.perf_counter_ns()
        self._pending.append(job)
        self._pending_rows += job.call.rows or 1
        if self._scheduled:
            if self._gathering is not None and self._pending_rows >= self.max_batch_rows:
                self._gathering.cancel()
                self._flush()
            return
        self._scheduled = True
        if self._batch_wait_seconds and self._pending_rows < self.max_batch_rows:
            self._gathering = self._loop.call_later(self._batch_wait_seconds, self._flush)
        elif self._seconds_per_run < self._inline_seconds and self.alone():
            self._flush()
        else:
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)

    def give_up(self, message: str) -> None:
        """The run under way will not end, nor will those behind it begin. The process is about to end."""
        jobs = [*self._beside, *self._pending]
        self._pending.clear()
        for job in jobs:
            _deliver(_Outcome(job, error=message, late=True))

    def _flush(self) -> None:
        """One group a turn, so that sockets are served between the groups of a long queue."""
        self._gathering = None
        jobs, rows = self._take()
        if max(self._seconds_per_run, self._seconds_per_row * rows) < self._inline_seconds:
            self._done(self._run_timed(jobs), rows)
        else:
            self._beside = jobs
            self._beside_since = self._loop.time()
            future = self._loop.run_in_executor(self._worker, self._run_timed, jobs)
            future.add_done_callback(lambda f: self._done(f.result(), rows))

    def _take(self) -> tuple[list[Job], int]:
        pending = self._pending
        jobs = [pending.popleft()]
        first = jobs[0].call
        rows = first.rows
        if rows:
            while pending:
                call = pending[0].call
                if not call.rows or call.group != first.group or rows + call.rows > self.max_batch_rows:
                    break
                rows += call.rows
                jobs.append(pending.popleft())
        rows = max(rows, 1)
        self._pending_rows -= rows
        return jobs, rows

    def _done(self, run: _Run, rows: int) -> None:
        seconds = (run.ended - run.started) * 1e-9
        self._beside = []
        if seconds < self._longest_wait_seconds:  # a run that was ended tells nothing of those that come
            self._seconds_per_run += SMOOTHING * (seconds - self._seconds_per_run)
            self._seconds_per_row += SMOOTHING * (seconds / rows - self._seconds_per_row)
            self._seconds_per_job += SMOOTHING * (seconds / len(run.outcomes) - self._seconds_per_job)
        self.done.add(run, rows)
        if seconds > min(self.max_queue_seconds, self._longest_wait_seconds):
            self._drop_late()
        if self._pending:
            self._loop.call_soon(self._flush)
        else:
            self._scheduled = False
        for outcome in run.outcomes:
            _deliver(outcome)

    def _drop_late(self) -> None:
        """After a long run: of those that waited behind it, what has waited too long."""
        earliest = time.perf_counter_ns() - int(self._longest_wait_seconds * 1e9)
        while self._pending and self._pending[0].submitted < earliest:
            job = self._pending.popleft()
            self._pending_rows -= job.call.rows or 1
            message = f"the request waited longer than {self._longest_wait_seconds:g} s for the model; try again"
            _deliver(_Outcome(job, error=message, late=True))

    # -- from here on also in the worker thread: no event loop, no shared state

    def _run_timed(self, jobs: list[Job]) -> _Run:
        started = time.perf_counter_ns()
        outcomes = self._run(jobs)
        return _Run(outcomes, started, time.perf_counter_ns())

    def _run(self, jobs: list[Job]) -> list[_Outcome]:
        if len(jobs) > 1:
            outcomes = self._run_together(jobs)
            if outcomes is not None:
                return outcomes
        return [self._run_alone(job) for job in jobs]

    def _run_alone(self, job: Job) -> _Outcome:
        try:
            outputs = self._model.run(job.call.outputs, job.call.feed)
            return _Outcome(job, outputs, all_finite(outputs))
        except RunTooLong as error:
            return _Outcome(job, error=str(error), late=True)
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            return _Outcome(job, error=str(error) or repr(error))

    def _run_together(self, jobs: list[Job]) -> list[_Outcome] | None:
        """None if the joint run failed or its outputs cannot be told apart."""
        calls = [job.call for job in jobs]
        try:
            feed: dict[str, Any] = {n: np.concatenate([c.feed[n] for c in calls]) for n in calls[0].feed}
            outputs = self._model.run(calls[0].outputs, feed)
        except Exception:  # each is run alone, and the culprit gets its message there
            return None
        if any(a.shape[:1] != (sum(c.rows for c in calls),) for a in outputs):
            return None
        finite = all_finite(outputs)
        outcomes: list[_Outcome] = []
        start = 0
        for job in jobs:
            end = start + job.call.rows
            outcomes.append(_Outcome(job, [a[start:end] for a in outputs], finite))
            start = end
        return outcomes


def _deliver(outcome: _Outcome) -> None:
    """A fault of ours in one answer must reach neither the other jobs of the run nor the event loop."""
    job = outcome.job
    try:
        if outcome.late:
            job.late(outcome.error)
        elif outcome.error:
            job.fail(outcome.error)
        else:
            job.finish(outcome.outputs, outcome.finite)
    except Exception as error:
        log.error("cannot produce a response", error=repr(error))
        job.fail("the server could not encode the answer")
