"""Owns spans: pieces of work with a beginning and an end, and the one that the work at hand belongs to.

Must not know OpenTelemetry, nor who takes spans: they are handed to a recorder when they end. Times are in seconds of
the monotonic clock, so that no step of the system's clock tears a span apart.
"""

import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from importlib.util import find_spec
from types import MappingProxyType
from typing import Literal, Protocol

from structlog.typing import FilteringBoundLogger

from sovren_edge.observe.registry import Metric
from sovren_edge.observe.settings import TracingSettings
from sovren_edge.observe.trace_context import (
    SPAN_BITS,
    TRACEPARENT,
    TRACESTATE,
    TraceContext,
    field_lines,
    make_context,
    read_traceparent,
    read_tracestate,
)

Kind = Literal["server", "client", "internal"]
Value = str | int | float


class Recorder(Protocol):
    """Takes spans that have ended; never waits."""

    def put(self, span: "Span") -> None:
        """Take one, or drop and count it."""

    def collect(self) -> Iterable[Metric]:
        """See registry.Collector."""


class Span:
    """Work that is recorded once it has ended; `remote` if its parent is another program's."""

    __slots__ = (
        "_recorder", "attributes", "began_at", "context", "ended_at", "error", "kind", "name", "parent_id", "remote",
        "state",
    )  # fmt: skip

    def __init__(
        self, recorder: Recorder, name: str, kind: Kind, *, context: TraceContext, parent_id: str, state: str,
        now: float,
    ) -> None:  # fmt: skip
        """Begin it; `parent_id` is empty for the first of its trace, `state` is what came as tracestate."""
        self._recorder = recorder
        self.name = name
        self.kind = kind
        self.context = context
        self.parent_id = parent_id
        self.state = state
        self.began_at = self.ended_at = now
        self.attributes: dict[str, Value] = {}
        # Why it failed, in a word; empty if it did not.
        self.error = ""
        self.remote = False

    @property
    def lines(self) -> bytes:
        """What whoever is asked in its course is told, as lines of a head."""
        return field_lines(self.context.traceparent.encode(), self.state.encode("latin-1"))

    def child(self, name: str, kind: Kind, now: float) -> "Span":
        """Begin a part of this work."""
        ours = self.context
        context = TraceContext(ours.trace_id, _new_id(SPAN_BITS), sampled=True)
        return Span(self._recorder, name, kind, context=context, parent_id=ours.span_id, state=self.state, now=now)

    def end(self, now: float, error: str = "") -> None:
        """End it, once."""
        self.ended_at, self.error = now, error or self.error
        self._recorder.put(self)


def _new_id(bits: int) -> str:
    return f"{random.getrandbits(bits):0{bits // 4}x}"


@dataclass(frozen=True, slots=True)
class Tracer:
    """Begins the spans of one process; `sample` is the share of the traces that begin here that are recorded."""

    recorder: Recorder
    sample: float = 1.0
    # Where requests come in.
    listener: str = ""

    def at(self, listener: str) -> "Tracer":
        """Return one for the requests that come in at a listener."""
        return replace(self, listener=listener)

    def begin(self, given: TraceContext | None, state: str, name: str, now: float) -> Span | None:
        """Begin to serve a request, if that is to be recorded: who asks has decided, otherwise chance does."""
        if given is None:
            low = random.getrandbits(64)
            # By that half of its id, as OpenTelemetry's TraceIdRatioBased does: all who look at one trace decide alike.
            if low >= self.sample * 2.0**64:
                return None
            context, parent_id = TraceContext(_new_id(64) + f"{low:016x}", _new_id(SPAN_BITS), sampled=True), ""
        elif given.sampled:
            context, parent_id = given._replace(span_id=_new_id(SPAN_BITS)), given.span_id
        else:
            return None
        span = Span(self.recorder, name, "server", context=context, parent_id=parent_id, state=state, now=now)
        span.remote = given is not None
        span.attributes["sovren.listener"] = self.listener
        return span


@dataclass(frozen=True, slots=True)
class Trace:
    """What the work at hand belongs to: `span` is what is recorded of it, if anything; `given` if others began it."""

    trace_id: str
    traceparent: str
    state: str
    span: Span | None = None
    given: bool = True


_CURRENT: ContextVar[Trace | None] = ContextVar("trace", default=None)


def current_trace_id() -> str:
    """Return the trace of the request that is being served, in its tasks and those that they begin; empty elsewhere."""
    trace = _CURRENT.get()
    return "" if trace is None else trace.trace_id


@contextmanager
def serving(
    tracer: Tracer | None, parents: Sequence[str], states: Sequence[str], name: str, attributes: Mapping[str, Value]
) -> Iterator[Span | None]:
    """Serve a request that came with these values of traceparent and tracestate; what is yielded ends with it."""
    trace = _begin(tracer, parents, states, name)
    if trace.span is not None:
        trace.span.attributes.update(attributes)
    token = _CURRENT.set(trace)
    try:
        yield trace.span
    finally:
        _CURRENT.reset(token)
        if trace.span is not None:
            trace.span.end(time.monotonic())


def _begin(tracer: Tracer | None, parents: Sequence[str], states: Sequence[str], name: str) -> Trace:
    given = read_traceparent(parents[0]) if len(parents) == 1 else None
    state = "" if given is None else read_tracestate(states)
    span = None if tracer is None else tracer.begin(given, state, name, time.monotonic())
    if span is not None:
        return Trace(span.context.trace_id, span.context.traceparent, state, span)
    if given is not None:
        return Trace(given.trace_id, parents[0], state)
    made = make_context(random.getrandbits)
    return Trace(made.trace_id, made.traceparent, "", given=False)


@contextmanager
def step(
    name: str, kind: Kind = "internal", attributes: Mapping[str, Value] = MappingProxyType({})
) -> Iterator[Span | None]:
    """Record a part of serving the request at hand; None if nothing is recorded of it."""
    trace = _CURRENT.get()
    if trace is None or trace.span is None:
        yield None
        return
    span = trace.span.child(name, kind, time.monotonic())
    span.attributes.update(attributes)
    try:
        yield span
    except BaseException as error:
        span.error = span.error or type(error).__name__
        raise
    finally:
        span.end(time.monotonic())


def told(span: Span | None, *, outside: bool = False) -> dict[str, str]:
    """Return the fields of a request that is sent in the course of `span`, or of whatever is at hand.

    Who is `outside` hears nothing of a trace that neither is recorded nor was begun by our caller.
    """
    trace = _CURRENT.get()
    if trace is None or (outside and span is None and not trace.given):
        return {}
    fields = {TRACEPARENT: trace.traceparent if span is None else span.context.traceparent}
    return fields | {TRACESTATE: trace.state} if trace.state else fields


def exporter_installed() -> bool:
    """Whether the extra is there without which no spans can be sent."""
    try:
        return all(map(find_spec, ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")))
    except ModuleNotFoundError:
        return False


@contextmanager
def open_tracer(settings: TracingSettings, worker: str, log: FilteringBoundLogger) -> Iterator[Tracer | None]:
    """Hold what begins the spans of one process, the worker of this name; None where none are sent anywhere."""
    if settings.endpoint is None:
        yield None
        return
    # Only now: it comes with an extra that most do without, and costs megabytes.
    from sovren_edge.observe.otlp import open_exporter  # noqa: PLC0415

    with open_exporter(settings.endpoint, worker, log) as exporter:
        yield Tracer(exporter, settings.sample)
