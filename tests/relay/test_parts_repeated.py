"""Parts of texts that are spoken again: as often as it helps, and no oftener."""

import asyncio
import random
from contextlib import AsyncExitStack

import pytest
from harness import Backend, Front, backend, eventually, front, make_pool, read_request, unchunk
from voices import LONG, Speak, request, response, sound, speaking, text_of, wav

from pools.admission import Lease, Outcome
from pools.pool import Pool
from sovren_edge.speech.sentences import divide

PARTS = list(divide(LONG))
ERROR = response(b"{}", status="500 Internal Server Error", media_type="application/json")
FEW = 8


def fail(_head: bytes, _body: bytes) -> bytes:
    """Answer an error."""
    return ERROR


async def engines(stack: AsyncExitStack, *speaks: Speak, slots: int = 2) -> tuple[Front, Pool, list[Backend]]:
    """Serve a pool of endpoints that speak so."""
    backends = [await stack.enter_async_context(backend(speak)) for speak in speaks]
    ports = [one.port for one in backends]
    pool = make_pool("tts", ports, slots=slots, kind="speech", repeatable=True, interchangeable=True)
    return await stack.enter_async_context(front(pool)), pool, backends


async def heard(made: Front, text: str = LONG) -> bool:
    """Whether a caller hears all of a text."""
    head, _, body = (await made.call(request(text))).partition(b"\r\n\r\n")
    return (unchunk(body) if b"chunked" in head else body) == sound(text)


def attempts(backends: list[Backend]) -> int:
    """Return how many requests there were in all."""
    return sum(len(one.requests) for one in backends)


async def test_where_nobody_can_speak_few_are_asked() -> None:
    """Each endpoint is tried, and then the budget counts: the next texts cost no more than their parts."""
    async with AsyncExitStack() as stack:
        made, _, backends = await engines(stack, *[fail] * 5)
        answer = await made.call(request())
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert attempts(backends) <= len(PARTS) + FEW
        before = attempts(backends)
        for _ in range(3):
            await made.call(request())
        assert attempts(backends) - before <= 3 * len(PARTS)


async def test_one_good_endpoint_of_five_is_found() -> None:
    """Though every part meets the others first, since it is busy."""
    now = asyncio.get_running_loop().time
    async with AsyncExitStack() as stack:
        made, pool, backends = await engines(stack, *[fail] * 4, speaking, slots=1)
        lease = pool.admit("somebody", now(), frozenset(pool.endpoints[:4]))
        assert isinstance(lease, Lease)
        call = asyncio.create_task(heard(made))
        await eventually(lambda: pool.waiting == 4 and pool.inflight == 1)
        made.relay.release(lease, Outcome.SUCCEEDED, now())
        assert await call
        assert attempts(backends) <= len(PARTS) + FEW
        assert not made.relay.stats_of(pool).retries


@pytest.mark.parametrize("at_once", [1, 8])
async def test_two_bad_endpoints_of_five_cost_no_text(at_once: int) -> None:
    """Neither before they are ejected nor after."""
    async with AsyncExitStack() as stack:
        made, _, _ = await engines(stack, fail, speaking, fail, speaking, speaking)
        for _ in range(5):
            texts = [LONG.replace("Monday", f"day {number}") for number in range(at_once)]
            assert all(await asyncio.gather(*(heard(made, text) for text in texts)))


async def test_engines_that_fail_half_of_their_requests_are_not_asked_twice_as_often() -> None:
    """At most 1.25 attempts for each part and each text that is spoken as a whole: many are, where parts would fail."""
    dice = random.Random(5)

    async def answer(head: bytes, body: bytes) -> bytes:
        await asyncio.sleep(0.002)
        return ERROR if dice.random() < 0.5 else speaking(head, body)

    async with AsyncExitStack() as stack:
        made, pool, backends = await engines(stack, *[answer] * 5)
        days = iter(range(300))

        async def ask() -> list[bool]:
            return [await heard(made, LONG.replace("Monday", f"day {day}")) for day in days]

        one, other = await asyncio.gather(ask(), ask())
        assert any(one)
        assert any(other)
        stats = made.relay.stats_of(pool)
        wanted = stats.parts + 300 - stats.scattered
        assert attempts(backends) <= 1.25 * wanted


async def test_in_mid_speech_nothing_is_lost_for_want_of_budget() -> None:
    """Though all endpoints have failed lately."""
    gate = asyncio.Event()
    failed: set[str] = set()

    async def answer(head: bytes, body: bytes) -> bytes:
        text = text_of(body)
        if text != PARTS[0]:
            await gate.wait()
            if text not in failed:
                failed.add(text)
                return ERROR
        return speaking(head, body)

    async with AsyncExitStack() as stack:
        made, pool, _ = await engines(stack, answer, answer)
        while pool.budget.take(asyncio.get_running_loop().time()):
            pass
        reader, writer = await made.connect()
        writer.write(request())
        beginning = await reader.readuntil(b"\r\n\r\n")
        gate.set()
        assert unchunk((beginning + await reader.read()).partition(b"\r\n\r\n")[2]) == sound(LONG)
        assert made.relay.stats_of(pool).parts_repeated == len(failed) == len(PARTS) - 1
        writer.close()


async def test_a_part_of_another_form_is_its_endpoints_fault_to_the_last() -> None:
    """Also where it is known before the answer has ended, and nobody is asked any more."""
    first = asyncio.Event()

    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await read_request(reader)
            if text_of(body) == PARTS[0]:
                writer.write(response(wav(text_of(body)), media_type="audio/wav"))
                first.set()
                continue
            await first.wait()
            writer.write(response(wav(text_of(body), rate=48_000), media_type="audio/wav")[:-2])
            await writer.drain()

    async with backend(raw=odd) as one:
        pool = make_pool(
            "tts", [one.port], slots=8, kind="speech", repeatable=True, interchangeable=True, deterministic=True
        )
        async with front(pool) as made:
            answer = await made.call(request(audio_format="wav"))
            assert unchunk(answer.partition(b"\r\n\r\n")[2]) is None
            assert made.lines[0].ended.startswith("a part of the text was lost")
            counted = made.relay.stats_of(pool).endpoints[pool.endpoints[0].name].attempts
            await eventually(lambda: made.at_rest)
            # The first and its two repeats; the other parts were cancelled.
            assert counted["failed"] == 3


@pytest.mark.parametrize("heard_first", [True, False])
async def test_a_text_whose_last_endpoint_is_ejected_ends_once(*, heard_first: bool) -> None:
    """The end of one part's lease sends the others away, and with them the text: nothing of it is asked for again."""
    gate = asyncio.Event()

    async def answer(head: bytes, body: bytes) -> bytes:
        if heard_first and text_of(body) == PARTS[0]:
            return speaking(head, body)
        await gate.wait()
        return ERROR

    async with AsyncExitStack() as stack:
        made, pool, backends = await engines(stack, answer)
        calls = [asyncio.create_task(made.call(request(LONG.replace("luck", f"luck {number}")))) for number in range(3)]
        await eventually(lambda: pool.inflight == 2 and pool.waiting)
        gate.set()
        for answered in await asyncio.gather(*calls):
            assert unchunk(answered.partition(b"\r\n\r\n")[2]) is None if b"200 OK" in answered else b" 50" in answered
        await eventually(lambda: made.at_rest)
        before = attempts(backends)
        await asyncio.sleep(0.1)
        assert attempts(backends) == before
        assert len(made.lines) == len(calls)
