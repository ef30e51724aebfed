"""A second attempt beside one whose first byte is late."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from harness import Backend, Front, backend, eventually, front, make_pool, read_request
from voices import request, response, sound, text_of

from pools.pool import Pool

TEXT = "Good morning."


@dataclass
class Slow:
    """An endpoint that says nothing until it is told what."""

    answers: "asyncio.Queue[bytes]" = field(default_factory=asyncio.Queue)
    asked: int = 0
    left: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer with what is queued, until the caller leaves; see backend's `raw`."""
        _, body = await read_request(reader)
        assert text_of(body)
        self.asked += 1
        getting, leaving = asyncio.ensure_future(self.answers.get()), asyncio.ensure_future(reader.read(1))
        await asyncio.wait({getting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if getting.done():
            writer.write(getting.result())
            await writer.drain()
        else:
            self.left += 1
        getting.cancel()
        leaving.cancel()
        await asyncio.gather(getting, leaving, return_exceptions=True)


@asynccontextmanager
async def hedged() -> AsyncIterator[tuple[Front, asyncio.Task[bytes], Slow, Slow]]:
    """Ask for a text, and enter when a second endpoint has been asked for it as well."""
    one, two = Slow(), Slow()
    async with backend(raw=one.serve) as first, backend(raw=two.serve) as second:
        pool = pool_of(first, second)
        async with front(pool) as made:
            call = asyncio.ensure_future(made.call(request(TEXT)))
            await eventually(lambda: one.asked and two.asked)
            assert made.relay.stats_of(pool).hedges == 1
            yield made, call, one, two
            await call


def pool_of(*backends: Backend) -> Pool:
    """Make a pool that has had so many requests that one may be hedged."""
    pool = make_pool("tts", [one.port for one in backends], slots=1, kind="speech", repeatable=True)
    pool.budget.fade(asyncio.get_running_loop().time())
    pool.budget.requests += 100
    return pool


WHOLE = response(sound(TEXT))


@pytest.mark.parametrize("whole", [True, False], ids=["at once", "in pieces"])
async def test_the_second_attempt_is_heard_if_it_is_first(*, whole: bool) -> None:
    """And the first one is cancelled: its endpoint sees the caller leave."""
    async with hedged() as (made, call, one, two):
        two.answers.put_nowait(WHOLE if whole else WHOLE.replace(b"Content-Length: 26\r\n", b""))
        assert (await call).endswith(sound(TEXT)) or not whole
        assert sound(TEXT) in await call
        await eventually(lambda: one.left == 1)
        assert not made.pools[0].inflight
        (line,) = made.lines
        assert (line.attempts, line.ended) == (2, "complete")
        assert line.endpoint == made.pools[0].endpoints[1].name


async def test_the_first_attempt_is_heard_if_it_is_first() -> None:
    """And the second one is cancelled."""
    async with hedged() as (made, call, one, two):
        one.answers.put_nowait(WHOLE)
        assert (await call).endswith(sound(TEXT))
        await eventually(lambda: two.left == 1)
        assert not made.pools[0].inflight


@pytest.mark.parametrize("how", [b"", b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"], ids=["breaks", "error"])
async def test_a_second_attempt_that_fails_costs_nothing(how: bytes) -> None:
    """The first one goes on as if nothing had been."""
    async with hedged() as (_, call, one, two):
        two.answers.put_nowait(how)
        await eventually(two.answers.empty)
        one.answers.put_nowait(WHOLE)
        assert (await call).endswith(sound(TEXT))


async def test_where_the_first_breaks_the_second_goes_on() -> None:
    """It is not repeated once more."""
    async with hedged() as (_, call, one, two):
        one.answers.put_nowait(b"")
        await eventually(one.answers.empty)
        two.answers.put_nowait(WHOLE)
        assert (await call).endswith(sound(TEXT))
        assert (one.asked, two.asked) == (1, 1)


async def test_where_both_break_the_caller_is_told() -> None:
    """After two attempts."""
    async with hedged() as (made, call, one, two):
        for slow in (one, two):
            slow.answers.put_nowait(b"")
            await eventually(slow.answers.empty)
        assert (await call).startswith(b"HTTP/1.1 502 ")
        assert (one.asked, two.asked) == (1, 1)
        assert not made.pools[0].inflight


async def test_a_caller_that_leaves_ends_both() -> None:
    """At once."""
    one, two = Slow(), Slow()
    async with backend(raw=one.serve) as first, backend(raw=two.serve) as second:
        pool = pool_of(first, second)
        async with front(pool) as made:
            _, writer = await made.connect()
            writer.write(request(TEXT))
            await eventually(lambda: one.asked and two.asked)
            writer.transport.abort()
            await eventually(lambda: one.left == two.left == 1)
            assert not pool.inflight


async def test_an_error_of_the_first_waits_for_the_second() -> None:
    """It is no answer as long as the other one may bring a better one."""
    for how in (b"Content-Length: 0\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"):
        async with hedged() as (made, call, one, two):
            one.answers.put_nowait(b"HTTP/1.1 500 Oops\r\n" + how)
            await eventually(lambda made=made: made.pools[0].inflight == 1)
            two.answers.put_nowait(WHOLE)
            assert (await call).endswith(sound(TEXT))
            assert not made.pools[0].inflight


async def test_who_has_failed_the_request_is_not_asked_again() -> None:
    """It is idle, but the second attempt would be refused: the first one is left to go on alone."""
    broken, slow = Slow(), Slow()
    async with backend(raw=broken.serve) as first, backend(raw=slow.serve) as second:
        pool = pool_of(first, second)
        async with front(pool) as made:
            call = asyncio.ensure_future(made.call(request(TEXT)))
            await eventually(lambda: broken.asked)
            broken.answers.put_nowait(b"")
            await eventually(lambda: slow.asked)
            (waiting,) = made.relay.awaiting
            lease = waiting.lease
            assert lease is not None
            # Far later than any first byte would be.
            lease.since -= 60.0
            made.relay.sweep()
            stats = made.relay.stats_of(pool)
            assert (stats.hedges, sum(stats.refusals.values())) == (0, 0)
            slow.answers.put_nowait(WHOLE)
            assert (await call).endswith(sound(TEXT))
            assert (broken.asked, slow.asked) == (1, 1)


async def test_one_second_attempt_is_enough() -> None:
    """However late that one is, a third endpoint is left alone."""
    slow = [Slow() for _ in range(3)]
    async with (
        backend(raw=slow[0].serve) as one,
        backend(raw=slow[1].serve) as two,
        backend(raw=slow[2].serve) as three,
    ):
        pool = pool_of(one, two, three)
        async with front(pool) as made:
            call = asyncio.ensure_future(made.call(request(TEXT)))
            await eventually(lambda: sum(each.asked for each in slow) == 2)
            assert not made.relay.awaiting
            for each in slow:
                each.answers.put_nowait(WHOLE)
            assert (await call).endswith(sound(TEXT))
            assert sum(each.asked for each in slow) == 2
