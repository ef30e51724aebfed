"""Messages that differ from those of tests/corpus in a few places, and how many of them a run tries.

`make test` tries the same few each time. With FUZZ_MINUTES=10 each test tries new ones for ten minutes; what fails is
printed as small as it can be made, and belongs into the corpus.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).parent.parent / "corpus"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
# What is put in: bytes that end things, and lines that frame bodies.
PIECES = [
    *(b"\r\n", b"\r", b"\n", b"\r\n\r\n", b"\n\n", b" ", b"\t", b"\0", b"\x0b", b"\x7f", b"\xff", b":", b",", b";"),
    *(b"#", b"0", b"1", b"5", b"a", b"+", b"-", b"0x", b"_", b"/", b"\\", b'"', b"\r\n ", b"\r\n\t"),
    *(b"0\r\n\r\n", b"5\r\nhello\r\n", b"\r\nContent-Length: 0", b"\r\nContent-Length: 5"),
    *(b"\r\nContent-Length: +5", b"\r\nContent-Length: 5, 5", b"\r\nContent_Length: 9"),
    *(b"\r\nTransfer-Encoding: chunked", b"\r\nTransfer-Encoding:\tchunked", b"\r\nTransfer-Encoding: identity"),
    *(b"\r\nTransfer-Encoding : chunked", b"\r\nTransfer-Encoding: x, chunked", b"\r\nHost: b"),
    *(b"\r\nConnection: close", b"\r\nConnection: keep-alive", b"\r\nConnection: content-length"),
    *(b"\r\nExpect: 100-continue", b"\r\nUpgrade: h2c\r\nConnection: upgrade", b"\nX: y", b"\rX: y", b"\r\nX : y"),
    *(b" HTTP/1.0", b" HTTP/1.1", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", SMUGGLED),
]  # fmt: skip


def load(kind: str) -> list[bytes]:
    """Return the corpus of requests or responses, in one order everywhere."""
    return [path.read_bytes() for path in sorted((CORPUS / kind).glob("*.http"))]


def mutants(kind: str) -> st.SearchStrategy[bytes]:
    """Return requests or responses like those of the corpus."""
    return changed(st.lists(st.sampled_from(load(kind)), min_size=1, max_size=3).map(b"".join))


@st.composite
def changed(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Draw bytes that are changed in up to four places."""
    data = draw(whole)
    for _ in range(draw(st.integers(0, 4))):
        data = change(draw, data)
    return data


def change(draw: st.DrawFn, data: bytes) -> bytes:
    """Change one place: put something in, leave something out, say it twice, or spell it otherwise."""
    at = draw(st.integers(0, len(data)))
    size = draw(st.sampled_from([0, 1, 1, 2, 4, 16]))
    piece = data[at : at + size]
    put = draw(
        st.one_of(
            st.sampled_from(PIECES).map(lambda wanted: wanted + piece),
            st.sampled_from(PIECES),
            st.sampled_from([b"", piece * 2, piece.swapcase(), piece[::-1]]),
            st.binary(min_size=1, max_size=2),
        )
    )
    return data[:at] + put + data[at + size :]


@st.composite
def slices(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> list[bytes]:
    """Draw a message in pieces."""
    data = draw(whole)
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True) if start < end]


def try_out(strategy: st.SearchStrategy[Any], check: Callable[[Any], None], examples: int) -> None:
    """Check the same examples at each run, or new ones for FUZZ_MINUTES."""
    until = time.monotonic() + 60 * float(os.environ.get("FUZZ_MINUTES", "0"))
    _run(strategy, check, examples, number=0)
    while time.monotonic() < until:
        _run(strategy, check, examples, number=random.randrange(1 << 32))


def _run(strategy: st.SearchStrategy[Any], check: Callable[[Any], None], examples: int, *, number: int) -> None:
    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(example=strategy)
    def one(example: object) -> None:
        check(example)

    one()


async def try_out_here(
    strategy: st.SearchStrategy[Any], check: Callable[[Any], Coroutine[None, None, None]], examples: int
) -> None:
    """Check examples on the running loop: hypothesis draws them in a thread of its own."""
    loop = asyncio.get_running_loop()

    def hand_over(example: object) -> None:
        asyncio.run_coroutine_threadsafe(check(example), loop).result(60)

    await asyncio.to_thread(try_out, strategy, hand_over, examples)
