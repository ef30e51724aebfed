"""Where bodies end: by example, fed in any splits, and held against llhttp."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovren_edge.http.framing import (
    LAST_CHUNK,
    BodyReader,
    ChunkedReader,
    FramingError,
    SizedReader,
    UntilCloseReader,
    chunk,
)
from tests.http.messages import damaged
from tests.http.oracle import hear_chunked

Reading = tuple[bytes, bytes, bool]
bodies = st.lists(st.binary(min_size=1, max_size=20), max_size=5)


def read(reader: BodyReader, *fed: bytes) -> Reading:
    """Feed bytes one after the other; return the body, what stands behind it, and whether it is complete."""
    body: list[bytes] = []
    rest = b""
    for data in fed:
        if reader.done:
            rest += data
            continue
        rest = data
        while rest and not reader.done:  # many small chunks take several turns
            pieces, rest = reader.feed(rest)
            assert all(pieces), "no piece is empty"
            body += pieces
    return b"".join(body), rest, reader.done


def read_or_refuse(*fed: bytes) -> Reading | None:
    """Read a chunked body; None where it is malformed."""
    try:
        return read(ChunkedReader(), *fed)
    except FramingError:
        return None


def split(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut bytes at these places, as far as there are any."""
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def spell(size: int, *, upper: bool, zeros: int) -> bytes:
    """Write a chunk's size in one of its many forms."""
    digits = b"%X" % size if upper else b"%x" % size
    return b"0" * zeros + digits


@st.composite
def chunked_bodies(draw: st.DrawFn, alphabet: bytes = bytes(range(256))) -> bytes:
    """Draw a chunked body, with trailers at times."""
    pieces = draw(st.lists(st.lists(st.sampled_from(list(alphabet)), min_size=1, max_size=20).map(bytes), max_size=4))
    written = [
        spell(len(piece), upper=draw(st.booleans()), zeros=draw(st.integers(0, 2))) + b"\r\n" + piece + b"\r\n"
        for piece in pieces
    ]
    trailers = draw(st.sampled_from([b"", b"", b"A: b\r\n", b"A:\r\nB: c \r\n"]))
    return b"".join(written) + b"0\r\n" + trailers + b"\r\n"


@pytest.mark.parametrize(
    ("data", "body", "rest"),
    [
        (LAST_CHUNK, b"", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
        (b"5\r\nhello\r\n00\r\n\r\nGET /", b"hello", b"GET /"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", b""),
        (b"00001\r\n\n\r\n0\r\n\r\n", b"\n", b""),
        (b'1;a;b=c;d="e f"\r\nx\r\n0;g\r\n\r\n', b"x", b""),
        (b"1 ;a\r\nx\r\n0\r\n\r\n", b"x", b""),
        (b"1\r\nx\r\n0\r\nExpires: never\r\nB:\r\n\r\n\r\n", b"x", b"\r\n"),
    ],
)
def test_chunked_bodies(data: bytes, body: bytes, rest: bytes) -> None:
    """Sizes are hexadecimal; extensions and trailers are dropped."""
    assert read(ChunkedReader(), data) == (body, rest, True)
    assert read(ChunkedReader(), *split(data, range(len(data)))) == (body, rest, True)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"5\nhello\r\n0\r\n\r\n", "lines end with CRLF"),
        (b"5\r\nhello\n0\r\n\r\n", "so do chunks"),
        (b"5\r\nhelloX\r\n0\r\n\r\n", "a chunk is as long as it says"),
        (b"5\r\nhello\rX0\r\n\r\n", "its end is CRLF, not CR"),
        (b"\r\n", "a size has a digit"),
        (b"-1\r\n", "and no sign"),
        (b"0x5\r\n", "and no prefix"),
        (b" 5\r\n", "and no space before it"),
        (b"5 \r\n", "nor behind it"),
        (b"5 6\r\n", "and is one"),
        (b"g\r\n", "and is hexadecimal"),
        (b"1000000000000000\r\n", "and has an end"),
        (b"5;a\nb\r\n", "a line ends once"),
        (b"5;a\rb\r\n", "and for all of its readers"),
        (b"5;\0\r\n", "and holds no control characters"),
        (b"0\r\nA b\r\n\r\n", "a trailer is a field"),
        (b"0\r\n A: b\r\n\r\n", "without folding"),
        (b"0\r\nA : b\r\n\r\n", "without a space before its colon"),
        (b"0\r\nA: b\n\r\n", "with a CRLF"),
        (b"0" * 4096 + b"\r\n", "a line has an end"),
        (b"0\r\n" + b"A: b\r\n" * 3000 + b"\r\n", "and so have trailers"),
    ],
)
def test_malformed_chunks(data: bytes, why: str) -> None:
    """Whatever could be read in two ways is refused, however it comes in."""
    assert read_or_refuse(data) is None, why
    assert read_or_refuse(*split(data, range(len(data)))) is None, why


@pytest.mark.parametrize("data", [b"", b"5", b"5\r", b"5\r\n", b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r", b"0\r\n"])
def test_an_unfinished_body_is_not_done(data: bytes) -> None:
    """Nor is anything behind it."""
    _, rest, done = read(ChunkedReader(), data)
    assert not done
    assert rest == b""


@settings(max_examples=150)
@given(data=damaged(chunked_bodies()), places=st.lists(st.integers(0, 80), max_size=8))
def test_splits_make_no_difference(data: bytes, places: list[int]) -> None:
    """However the bytes come in, the body, its end and the verdict are the same."""
    assert read_or_refuse(*split(data, places)) == read_or_refuse(data)


@settings(max_examples=150)
@given(body=chunked_bodies(), behind=st.binary(max_size=10))
def test_a_valid_body_is_what_llhttp_reads(body: bytes, behind: bytes) -> None:
    """And it ends where llhttp sees its end."""
    heard = hear_chunked(body)
    assert heard is not None
    assert heard.complete
    assert read(ChunkedReader(), body + behind) == (heard.body, behind, True)


@settings(max_examples=200)
@given(data=damaged(chunked_bodies(alphabet=b"0123456789aF\r\n x"), spared=b";"))
def test_what_llhttp_refuses_is_refused(data: bytes) -> None:
    """Or more; extensions are left out, since both drop them and llhttp reads them more closely."""
    reading = read_or_refuse(data)
    if reading is None or not reading[2]:
        return
    body, rest, _ = reading
    heard = hear_chunked(data.removesuffix(rest))
    assert heard is not None
    assert (heard.body, heard.complete) == (body, True)


@settings(max_examples=200)
@given(data=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Nothing but FramingError is ever raised."""
    reading = read_or_refuse(data)
    assert reading is None or len(reading[0]) + len(reading[1]) <= len(data)


@settings(max_examples=100)
@given(groups=st.lists(bodies.filter(bool), max_size=4), behind=st.binary(max_size=5))
def test_what_is_chunked_is_read_again(groups: list[list[bytes]], behind: bytes) -> None:
    """Each group of pieces is one chunk, and none of them is copied."""
    written: list[bytes] = []
    for pieces in groups:
        framed = chunk(pieces)
        assert all(given is taken for given, taken in zip(pieces, framed[1:-1], strict=True))
        written += framed
    data = b"".join([*written, LAST_CHUNK, behind])
    assert read(ChunkedReader(), data) == (b"".join(map(b"".join, groups)), behind, True)
    heard = hear_chunked(data.removesuffix(behind))
    assert heard is not None
    assert heard.body == b"".join(map(b"".join, groups))


@settings(max_examples=100)
@given(data=st.binary(max_size=40), length=st.integers(0, 40), places=st.lists(st.integers(0, 40), max_size=4))
def test_a_sized_body_has_its_size(data: bytes, length: int, places: list[int]) -> None:
    """What comes after it is not its own."""
    reader = SizedReader(length)
    assert reader.done is (length == 0)
    assert read(reader, *split(data, places)) == (data[:length], data[length:], len(data) >= length)
    assert reader.remaining == max(0, length - len(data))


def test_a_whole_piece_is_not_copied() -> None:
    """The common case costs nothing; and behind the end, nothing is taken."""
    data = b"hello"
    reader = SizedReader(5)
    pieces, rest = reader.feed(data)
    assert pieces[0] is data
    assert rest == b""
    assert reader.feed(b"more") == ([], b"more")


def test_a_body_without_a_size_ends_with_its_connection() -> None:
    """Whoever owns the connection says so."""
    reader = UntilCloseReader()
    assert read(reader, b"hel", b"lo") == (b"hello", b"", False)
