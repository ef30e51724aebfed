"""Texts in parts take their memory from the one budget, go on where it is exhausted, and leave nothing behind."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from harness import Backend, Front, backend, eventually, front, make_pool, read_request, unchunk
from voices import LONG, Speak, request, response, sound, speaking, text_of

from pools.pool import Pool
from sovren_edge.relay.budget import READ, Budget, Share
from sovren_edge.relay.fetch import Fetch
from sovren_edge.relay.hedge import Hedge
from sovren_edge.relay.settings import RelaySettings
from sovren_edge.speech import part
from sovren_edge.speech.part import Part
from sovren_edge.speech.scatter import Scatter
from sovren_edge.speech.sentences import divide

MB = 1024 * 1024
PARTS = list(divide(LONG))
TIMES = 8000
KINDS = (Part, Scatter, Fetch, Hedge)


def loud(text: str) -> bytes:
    """Return a megabyte or more of sound for a sentence or two."""
    return sound(text) * TIMES


WHOLE = b"".join(map(loud, PARTS))


def pool_of(*backends: Backend, slots: int = 4, keep_bytes: int = 0) -> Pool:
    """Make a pool whose endpoints may share a text."""
    return make_pool(
        "tts",
        [one.port for one in backends],
        slots=slots,
        kind="speech",
        repeatable=True,
        interchangeable=True,
        keep_bytes=keep_bytes,
    )


def first_waits(gate: asyncio.Event) -> Speak:
    """Speak loudly; the beginning of the text when a gate is opened."""

    async def answer(_head: bytes, body: bytes) -> bytes:
        if text_of(body) == PARTS[0]:
            await gate.wait()
        return response(loud(text_of(body)))

    return answer


async def heard(made: Front, text: str = LONG) -> bytes | None:
    """Return what a caller hears of a text; None if it is not all of it."""
    return unchunk((await made.call(request(text))).partition(b"\r\n\r\n")[2])


def reading(made: Front) -> bool:
    """Whether anything is still read off an endpoint."""
    return any(upstream.served is not None and not upstream.held for upstream in made.relay.connections.all)


def test_a_share_that_must_be_had_leaves_nothing_for_others() -> None:
    """And everything is given back."""
    budget = Budget(100)
    one, other = Share(budget), Share(budget)
    assert one.fit(80)
    assert not other.fit(30)
    assert other.fit(30, must=True)
    assert (budget.taken, budget.left) == (110, -10)
    assert not one.fit(81)
    assert one.fit(60)
    assert other.fit(0)
    assert (budget.taken, budget.left) == (60, 40)
    assert one.fit(0, must=True)
    assert not budget.taken


async def test_what_waits_to_be_passed_on_is_counted() -> None:
    """All of it, and it is given back as it is passed on."""
    gate = asyncio.Event()
    async with backend(first_waits(gate)) as one, front(pool_of(one)) as made:
        call = asyncio.create_task(heard(made))
        waiting = sum(len(loud(text)) for text in PARTS[1:4])
        await eventually(lambda: made.pools[0].inflight == 1 and made.relay.budget.taken >= waiting)
        assert made.relay.budget.taken <= waiting + 2 * READ
        gate.set()
        assert await call == WHOLE
        await eventually(lambda: not made.relay.budget.taken)


async def test_later_parts_wait_at_their_endpoints_where_memory_is_exhausted() -> None:
    """No more is read of them until it is their turn."""
    gate = asyncio.Event()
    async with backend(first_waits(gate)) as one:
        pool = pool_of(one)
        async with front(pool, settings=RelaySettings(buffers_limit=2 * MB)) as made:
            call = asyncio.create_task(heard(made))
            await eventually(lambda: pool.inflight > 1 and sum(u.held for u in made.relay.connections.all))
            await eventually(lambda: sum(u.served is not None and not u.held for u in made.relay.connections.all) == 1)
            assert made.relay.budget.taken <= 2 * MB
            gate.set()
            assert await call == WHOLE
            await eventually(lambda: not made.relay.budget.taken)


async def test_a_part_that_waits_for_memory_holds_no_slot_from_others() -> None:
    """The first part fails, and its repeat finds all slots with parts that wait for it: they are put off."""
    fail = asyncio.Event()

    async def answer(_head: bytes, body: bytes) -> bytes:
        text = text_of(body)
        if text == PARTS[0] and not fail.is_set():
            await fail.wait()
            return response(b"", status="500 Internal Server Error")
        return response(loud(text))

    async with backend(answer) as one:
        pool = pool_of(one, slots=2)
        async with front(pool, settings=RelaySettings(buffers_limit=MB)) as made:
            call = asyncio.create_task(heard(made))
            await eventually(lambda: pool.inflight == 2 and any(u.held for u in made.relay.connections.all))
            fail.set()
            assert await call == WHOLE
            await eventually(lambda: not made.relay.budget.taken)
            assert made.lines[0].ended == "complete"


async def test_two_texts_that_wait_for_each_other_are_both_heard() -> None:
    """Neither has the memory for its second part, and both wait for a slot that the other one has."""
    async with backend(lambda _h, body: response(loud(text_of(body)))) as one:
        pool = pool_of(one, slots=2)
        async with front(pool, settings=RelaySettings(buffers_limit=0)) as made:
            other = LONG.replace("Monday", "Friday")
            answers = await asyncio.gather(*(heard(made, text) for text in (LONG, other)))
            assert answers == [WHOLE, b"".join(map(loud, divide(other)))]
            assert made.relay.budget.taken == 0


async def test_a_caller_who_does_not_read_costs_what_may_be_read_ahead() -> None:
    """What is more than that stays where it is counted."""
    async with backend(lambda _h, body: response(loud(text_of(body)) * 4)) as one:
        pool = pool_of(one)
        async with front(pool) as made:
            reader, writer = await asyncio.open_connection("127.0.0.1", made.port, limit=1024)
            writer.write(request(LONG))
            await eventually(lambda: one.requests and not pool.inflight)
            (caller,) = made.relay.downstreams
            assert caller.transport is not None
            assert caller.transport.get_write_buffer_size() <= 2 * MB + 2 * READ
            assert made.relay.budget.taken > 4 * MB
            answer = await reader.read()
            writer.close()
            assert unchunk(answer.partition(b"\r\n\r\n")[2]) == b"".join(loud(text) * 4 for text in PARTS)
            await eventually(lambda: not made.relay.budget.taken)


async def test_a_part_of_any_length_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that is too long to be kept, the beginning is passed on before it has ended."""
    monkeypatch.setattr(part, "PART_LIMIT", MB)
    text = PARTS[0] + PARTS[1] + "and so on, " * 60
    async with backend(lambda _h, body: response(loud(text_of(body)))) as one:
        pool = pool_of(one)
        async with front(pool) as made:
            call = asyncio.create_task(heard(made, text))
            most = 0
            while not call.done():
                most = max(most, made.relay.budget.taken)
                await asyncio.sleep(0.001)
            assert await call == b"".join(map(loud, divide(text)))
            assert len(loud(text)) > 10 * MB
            assert most < 6 * MB
            assert not made.relay.stats_of(pool).parts_repeated


async def test_a_part_that_is_too_long_to_be_spoken_again_ends_as_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its beginning was passed on: another engine's speech would not fit to it."""
    monkeypatch.setattr(part, "PART_LIMIT", MB)
    text = PARTS[0] + PARTS[1] + "and so on, " * 60

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await read_request(reader)
            answer = response(loud(text_of(body)))
            cut = "and so on" in text_of(body)
            writer.write(answer[: len(answer) // 2] if cut else answer)
            await writer.drain()
            if cut:
                writer.close()

    async with backend(raw=break_off) as one:
        pool = pool_of(one)
        async with front(pool) as made:
            assert await heard(made, text) is None
            assert made.lines[0].ended.startswith("a part of the text was lost")
            assert made.relay.stats_of(pool).endpoints[pool.endpoints[0].name].attempts["failed"] == 1


@asynccontextmanager
async def nothing_collected() -> AsyncIterator[None]:
    """Let nothing of a text be left soon after its end, without a collection."""
    gc.collect()
    gc.disable()
    try:
        yield
        await eventually(lambda: not any(isinstance(one, KINDS) for one in gc.get_objects()))
    finally:
        gc.enable()


async def test_a_text_leaves_no_cycles() -> None:
    """However it ends: whole, lost, or left by its caller at any time."""
    dice = random.Random(3)

    async def answer(head: bytes, body: bytes) -> bytes:
        if "bad luck" in text_of(body) or dice.random() < 0.1:
            return response(b"", status="500 Internal Server Error")
        return speaking(head, body)

    async with backend(answer) as one, backend(answer) as two, front(pool_of(one, two, slots=2)) as made:
        async with nothing_collected():
            for number in range(30):
                await made.call(request(LONG.replace("luck", "bad luck") if number % 5 == 0 else LONG))
            for _ in range(30):
                _, writer = await made.connect()
                writer.write(request(LONG))
                await asyncio.sleep(dice.random() / 200)
                writer.transport.abort()
            await eventually(lambda: made.at_rest and not made.relay.downstreams)
        ends = {line.ended.partition(":")[0] for line in made.lines}
        assert {"complete", "caller left", "a part of the text was lost"} <= ends


async def test_what_is_kept_leaves_no_cycles() -> None:
    """Neither a whole text, nor one in parts."""
    async with backend(speaking) as one, front(pool_of(one, keep_bytes=MB)) as made, nothing_collected():
        for text in ("Good morning.", LONG):
            await made.call(request(text))
        await eventually(lambda: made.relay.stats_of(made.pools[0]).kept_answers == 2)


@pytest.mark.parametrize("winner", [0, 1], ids=["the first", "the second"])
async def test_a_second_attempt_leaves_no_cycles(winner: int) -> None:
    """Whoever of the two is heard."""
    gates = asyncio.Event(), asyncio.Event()

    async def answer(which: int, head: bytes, body: bytes) -> bytes:
        await gates[which].wait()
        return speaking(head, body)

    async with (
        backend(lambda head, body: answer(0, head, body)) as one,
        backend(lambda head, body: answer(1, head, body)) as two,
    ):
        pool = pool_of(one, two, slots=1)
        pool.budget.fade(asyncio.get_running_loop().time())
        pool.budget.requests += 100
        async with front(pool) as made, nothing_collected():
            call = asyncio.create_task(made.call(request(PARTS[0] + PARTS[1])))
            await eventually(lambda: one.requests and two.requests)
            gates[1].set()
            await eventually(lambda: not pool.endpoints[1].inflight)
            gates[1].clear()
            await eventually(lambda: made.relay.stats_of(pool).hedges == 1)
            gates[winner].set()
            await eventually(lambda: not pool.inflight)
            await call
            await eventually(lambda: made.at_rest and not made.relay.downstreams)


async def hang_up_or_speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dice: random.Random) -> None:
    """Speak, stop in the middle, answer an error or nonsense, refuse, or stall."""
    while True:
        _, body = await read_request(reader)
        answer = response(loud(text_of(body)) if dice.random() < 0.5 else sound(text_of(body)))
        fate = dice.random()
        if fate < 0.1:
            answer = response(b"{}", status="500 Internal Server Error")
        elif fate < 0.15:
            answer = response(b"{}", status="400 Bad Request")
        elif fate < 0.2:
            answer = response(b"OggS0000", media_type="audio/ogg")
        writer.write(answer[: len(answer) // 2])
        await writer.drain()
        if fate > 0.98:
            await reader.read()
        if fate > 0.85:
            writer.transport.abort()
            return
        await asyncio.sleep(dice.random() / 200)
        writer.write(answer[len(answer) // 2 :])
        await writer.drain()


async def leave_sometimes(made: Front, dice: random.Random, text: str) -> None:
    """Ask for a text; read it all, some of it slowly, or leave."""
    await asyncio.sleep(dice.random())
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port, limit=4096)
    patience = dice.random()
    try:
        writer.write(request(text))
        if patience < 0.3:
            await asyncio.sleep(dice.random() / 10)
            return
        while await reader.read(256 * 1024):
            if patience < 0.6:
                await asyncio.sleep(0.002)
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("limit", [0, MB, 4 * MB, 256 * MB])
async def test_every_counter_is_at_zero_after_any_ends(limit: int) -> None:
    """Whatever memory there is."""
    dice = random.Random(limit)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hang_up_or_speak(reader, writer, dice)

    settings = RelaySettings(buffers_limit=limit, first_byte_timeout_s=0.5, idle_timeout_s=0.5)
    async with backend(raw=serve) as one, backend(raw=serve) as two, backend(raw=serve) as three:
        pool = pool_of(one, two, three, slots=2)
        async with front(pool, settings=settings) as made:
            texts = [LONG.replace("Monday", f"the day {number % 20}") for number in range(60)]
            await asyncio.gather(*(leave_sometimes(made, dice, text) for text in texts))
            await eventually(lambda: made.at_rest)
            await eventually(lambda: not made.relay.budget.taken and not made.relay.downstreams)
            assert len(made.lines) == len(texts)
            await eventually(lambda: not made.relay.awaiting)
