"""What W3C Trace Context says on the wire."""

import random

import pytest

from sovren_edge.observe.trace_context import (
    TraceContext,
    field_lines,
    make_context,
    read_traceparent,
    read_tracestate,
    trace_id_of,
    unrecorded_lines,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        # Other flags say nothing of this one.
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-fe", False),
        # Later versions begin like this one.
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-then", True),
    ],
)
def test_what_is_valid(value: str, *, sampled: bool) -> None:
    """Section 3.2.2: version, trace, parent, flags."""
    assert read_traceparent(value) == TraceContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-1",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01more",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-\u0661\u0661",
    ],
)
def test_what_is_not(value: str) -> None:
    """It is as if it were not there."""
    assert read_traceparent(value) is None


def test_what_is_said_is_read_again() -> None:
    """With either flag."""
    for context in (TraceContext(TRACE, SPAN, sampled=True), make_context(random.getrandbits)):
        assert read_traceparent(context.traceparent) == context


def test_small_ids_are_written_in_full() -> None:
    """Zeros in front are digits."""
    assert make_context(lambda _bits: 7).traceparent == f"00-{7:032x}-{7:016x}-00"


def test_what_systems_add_is_said_on_together_if_it_can_be() -> None:
    """In the order of its fields; what aiohttp could not write, or would break a head, is left out."""
    assert read_tracestate(["a=1", "b=2,c=3"]) == "a=1,b=2,c=3"
    assert read_tracestate([]) == ""
    assert read_tracestate(["a=\udcff"]) == ""
    assert read_tracestate(["a=1\r\nx: y"]) == ""


def test_lines_of_a_head() -> None:
    """Each behind its CRLF, and none for what is empty."""
    assert field_lines(b"p", b"s") == b"\r\ntraceparent: p\r\ntracestate: s"
    assert field_lines(b"p", b"") == b"\r\ntraceparent: p"
    assert field_lines(b"", b"") == b""


def test_each_request_without_a_trace_begins_one_that_nobody_records() -> None:
    """Valid, its own, and found again in its line."""
    lines = unrecorded_lines(random.getrandbits)
    made = [next(lines) for _ in range(1000)]
    for line in made:
        name, _, value = line.decode().removeprefix("\r\n").partition(": ")
        said = read_traceparent(value)
        assert name == "traceparent"
        assert said is not None
        assert not said.sampled
        assert trace_id_of(line) == said.trace_id
    assert len(set(map(trace_id_of, made))) == len(made)
