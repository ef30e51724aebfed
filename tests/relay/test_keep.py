"""Answers that are kept for equal requests that come later."""

import asyncio

import pytest
from harness import Backend, Front, backend, eventually, front, make_pool, unchunk
from voices import LONG, request, response, sound, speaking, text_of

from pools.pool import Pool

TEXT = "Good morning."
KEEP = 1 << 20


def pool_of(*backends: Backend, keep_bytes: int = KEEP, interchangeable: bool = False, name: str = "tts") -> Pool:
    """Make a pool that keeps answers."""
    return make_pool(
        name,
        [one.port for one in backends],
        kind="speech",
        repeatable=True,
        interchangeable=interchangeable,
        keep_bytes=keep_bytes,
    )


async def said(made: Front, text: str = TEXT, fields: bytes = b"") -> tuple[bytes, bytes | None]:
    """Ask for a text; return the answer's head and body."""
    asked = request(text).replace(b"Host: x\r\n", b"Host: x\r\n" + fields, 1)
    head, _, body = (await made.call(asked)).partition(b"\r\n\r\n")
    return head, unchunk(body) if b"Transfer-Encoding: chunked" in head else body


async def test_an_equal_request_gets_the_kept_answer() -> None:
    """With its age and length; no endpoint hears of it."""
    async with backend(speaking) as one, front(pool_of(one)) as made:
        first, body = await said(made)
        assert b"\r\nAge:" not in first
        again, same = await said(made)
        assert body == same == sound(TEXT)
        assert b"\r\nAge: 0\r\n" in again
        assert b"\r\nContent-Length: %d\r\n" % len(sound(TEXT)) in again + b"\r\n"
        assert b"\r\nContent-Type: audio/pcm" in again
        assert len(one.requests) == 1
        assert (await said(made, "Good evening."))[1] == sound("Good evening.")
        assert len(one.requests) == 2
        stats = made.relay.stats_of(made.pools[0])
        assert (stats.kept_answers, stats.kept_served) == (2, 1)
        assert [line.endpoint for line in made.lines][1] == ""


async def test_a_kept_answer_is_for_every_class_and_deadline() -> None:
    """Nobody waits for it."""
    async with backend(speaking) as one, front(pool_of(one)) as made:
        await said(made)
        for fields in (b"X-Sovren-Priority: bulk\r\n", b"X-Sovren-Deadline-Ms: 500\r\n"):
            head, body = await said(made, fields=fields)
            assert b"\r\nAge: 0\r\n" in head
            assert body == sound(TEXT)
        assert len(one.requests) == 1


async def test_a_text_that_was_spoken_in_parts_is_kept_whole() -> None:
    """And given again with its length."""
    async with backend(speaking) as one, front(pool_of(one, interchangeable=True)) as made:
        assert (await said(made, LONG))[1] == sound(LONG)
        asked = len(one.requests)
        head, body = await said(made, LONG)
        assert body == sound(LONG)
        assert b"\r\nContent-Length: " in head
        assert len(one.requests) == asked


@pytest.mark.parametrize("fields", [b"Cache-Control: no-store\r\n", b"Cache-Control: max-age=0, no-cache\r\n"])
async def test_a_caller_may_want_a_fresh_answer(fields: bytes) -> None:
    """With no-store nothing is kept of it either."""
    async with backend(speaking) as one, front(pool_of(one)) as made:
        for _ in range(2):
            await said(made, fields=fields)
        assert len(one.requests) == 2
        assert made.relay.stats_of(made.pools[0]).kept_answers == (b"no-cache" in fields)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nCache-Control: private\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=3, No-Store\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nVary: *\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 203 OK\r\nContent-Length: 2\r\n\r\nok",
        response(b"no", status="400 Bad Request"),
    ],
)
async def test_what_may_not_be_kept_is_not(answer: bytes) -> None:
    """An error least of all."""
    async with backend(lambda _h, _b: answer) as one, front(pool_of(one)) as made:
        await said(made)
        await said(made)
        assert len(one.requests) == 2


async def test_an_answer_whose_end_nobody_marked_is_not_kept() -> None:
    """It may have been cut."""

    async def until_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nok")
        await writer.drain()
        writer.close()

    async with backend(raw=until_close) as one, front(pool_of(one)) as made:
        await said(made)
        await said(made)
        assert one.connections == 2


async def test_another_tier_is_no_reason_to_keep() -> None:
    """When the first one is back, it is to be heard."""
    async with backend(speaking) as one:
        away = make_pool("tts", [1], kind="speech", keep_bytes=KEEP, ready=False)
        async with front(away, pool_of(one, name="csm")) as made:
            await said(made)
            await said(made)
            assert len(one.requests) == 2


async def test_memory_is_bounded() -> None:
    """The answer that was used longest ago goes first, and one that is too large is never kept."""
    async with backend(speaking) as one, front(pool_of(one, keep_bytes=7_500)) as made:
        for text in ("one", "two", "three", "one", "four"):
            await said(made, text)
        stats = made.relay.stats_of(made.pools[0])
        assert 0 < stats.kept_bytes <= 7_500
        asked = len(one.requests)
        await said(made, "one")
        assert len(one.requests) == asked
        await said(made, "two")
        assert len(one.requests) == asked + 1
        before = stats.kept_answers
        await said(made, "x" * 5_000)
        assert stats.kept_answers == before
        await eventually(lambda: text_of(one.requests[-1][1]) == "x" * 5_000)
