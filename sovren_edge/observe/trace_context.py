"""Owns what W3C Trace Context says on the wire: which trace a request belongs to, and how the next in line is told.

Must not know spans, nor whether anything is recorded. Rules: https://www.w3.org/TR/trace-context-2/, sections 3 and 4.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
TRACE_BITS, SPAN_BITS = 128, 64

_VALUE = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SENDABLE = re.compile(r"[\t -~]*")
_LINE = b"\r\ntraceparent: 00-"
_TRACE_ID = slice(len(_LINE), len(_LINE) + TRACE_BITS // 4)


class TraceContext(NamedTuple):
    """A trace, and the span in it whose caller asks; `sampled` if that one is recorded."""

    trace_id: str
    span_id: str
    sampled: bool

    @property
    def traceparent(self) -> str:
        """Its value on the wire."""
        return f"00-{self.trace_id}-{self.span_id}-0{self.sampled:d}"


def read_traceparent(value: str) -> TraceContext | None:
    """Return what a field says; None for what is malformed, which is to be treated as if it were not there."""
    said = _VALUE.fullmatch(value)
    # Later versions may say more behind the flags.
    if said is None or (said[1] == "00" and said[5] is not None):
        return None
    return TraceContext(said[2], said[3], sampled=bool(int(said[4], 16) & 1))


def read_tracestate(values: Sequence[str]) -> str:
    """Return what the fields say together; empty where it could not be said on."""
    state = ",".join(values)
    return state if _SENDABLE.fullmatch(state) else ""


def make_context(bits: Callable[[int], int]) -> TraceContext:
    """Begin a trace of which nothing is recorded; `bits` are random ones."""
    return TraceContext(f"{bits(TRACE_BITS):032x}", f"{bits(SPAN_BITS):016x}", sampled=False)


def field_lines(traceparent: bytes, tracestate: bytes) -> bytes:
    """Return both as they are written into a head, each behind its CRLF; an empty one is left out."""
    return (b"\r\ntraceparent: " + traceparent if traceparent else b"") + (
        b"\r\ntracestate: " + tracestate if tracestate else b""
    )


def unrecorded_lines(bits: Callable[[int], int]) -> Iterator[bytes]:
    """Make a field line, with a trace of its own, for each request that belongs to none and is not recorded.

    All of it is C: one for each request of the hot path. Half of an id is the process's own, the other half new.
    """
    form = _LINE + b"%016x" % bits(64) + b"%016x-" + b"%016x-00" % bits(SPAN_BITS)
    return map(form.__mod__, iter(partial(bits, 64), None))


def trace_id_of(line: bytes) -> str:
    """Return the trace that a field line names."""
    return line[_TRACE_ID].decode()
