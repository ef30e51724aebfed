"""Server-sent events, read by the rules of WHATWG HTML, 9.2."""

from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.executives.sse import LONGEST_EVENT, Reader, ServerEvent, TooLongError, write_event

BOM = b"\xef\xbb\xbf"
# Whatever means something in a stream, and some that does not.
morsels = st.sampled_from([
    b"data", b"event", b"id", b"retry", b": ", b":", b" ", b"\r", b"\n", b"\r\n", b"x", b"\0", BOM,
    "\u00e4".encode(), b"\xff",
])  # fmt: skip
streams = st.lists(morsels, max_size=60).map(b"".join)


def read(*chunks: bytes) -> list[tuple[str, str]]:
    """Return the events of a stream that comes in these chunks."""
    reader = Reader()
    return [(event.name, event.data) for chunk in chunks for event in reader.feed(chunk)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: one\n\ndata: two\n\n", [("message", "one"), ("message", "two")]),
        (b"data: one\ndata:two\ndata\n\n", [("message", "one\ntwo\n")]),
        (b"event: error\ndata: {}\n\ndata: x\n\n", [("error", "{}"), ("message", "x")]),
        (b"event: a\nevent: b\ndata:  two spaces\n\n", [("b", " two spaces")]),
        (b"event: nothing is said\n\ndata: x\n\n", [("message", "x")]),
        (b": a comment\n\n:\n\ndata: x\n: in the midst\n\n", [("message", "x")]),
        (b"id: 1\nretry: 5\nother: y\nno colon\ndata: a:b\n\n", [("message", "a:b")]),
        (b"data:\n\n", [("message", "")]),
        (
            b"data: one\r\rdata: two\r\n\r\ndata: three\n\r",
            [("message", "one"), ("message", "two"), ("message", "three")],
        ),
        (BOM + b"data: x\n\n" + BOM + b"data: no field\n\n", [("message", "x")]),
        (b"data: \xff\xc3\n\n", [("message", "\ufffd\ufffd")]),
        (b"data: never ended\n", []),
        (b"\n\n", []),
    ],
)
def test_a_stream_is_read(stream: bytes, events: list[tuple[str, str]]) -> None:
    """Field by field, whatever ends its lines."""
    assert read(stream) == events


@given(stream=streams, begun=st.sampled_from([b"", BOM]), cuts=st.lists(st.integers(0, 200)))
def test_it_may_come_in_any_chunks(stream: bytes, begun: bytes, cuts: list[int]) -> None:
    """They say the same as the whole, and so do single bytes."""
    stream = begun + stream
    places = [0, *sorted(cuts), len(stream)]
    chunks = [stream[begin:end] for begin, end in pairwise(places)]
    assert read(*chunks) == read(stream) == read(*(bytes([byte]) for byte in stream))


def test_an_event_is_told_with_the_byte_that_ends_it() -> None:
    """A CR that ends it may be half of a CRLF, and nobody waits for the other half."""
    reader = Reader()
    assert list(reader.feed(b"data: x\r\n\r")) == [ServerEvent("message", "x")]
    assert list(reader.feed(b"")) == []
    assert list(reader.feed(b"\ndata: y\n\n")) == [ServerEvent("message", "y")]


@pytest.mark.parametrize("size", [100, 1 << 22])
@pytest.mark.parametrize("unit", [b"x", b"data: xxxx\n", b"data: x\r\n", b": comment"])
def test_no_event_is_longer_than_anybody_would_send(unit: bytes, size: int) -> None:
    """A stream without an end of an event is not kept for ever; it costs no more bit by bit than at once."""
    stream = unit * (LONGEST_EVENT // len(unit) * 2)
    with pytest.raises(TooLongError):
        read(*(stream[at : at + size] for at in range(0, len(stream), size)))


def test_a_long_stream_of_short_events_is_read() -> None:
    """Only events have a greatest length, and what was told counts no more."""
    assert len(read(b": beat\ndata: some words\n\n" * (LONGEST_EVENT // 16))) == LONGEST_EVENT // 16


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


@given(values)
def test_what_is_written_is_read(data: object) -> None:
    """Line ends in a text are no line ends of the stream."""
    ((name, read_back),) = read(write_event("text", data))
    assert (name, orjson.loads(read_back)) == ("text", data)
