"""Texts in parts, where callers, deadlines and endpoints are not as one would like them."""

import asyncio
import itertools

import pytest
from harness import Backend, Front, backend, eventually, front, make_pool, read_request, unchunk
from voices import LONG, request, response, sound, speaking, text_of, wav

from pools.pool import Pool
from sovren_edge.relay.settings import RelaySettings

MANY = " ".join(
    f"This is sentence {n} of a long text, in which nobody is told anything that matters." for n in range(30)
)
MEGABYTE = 1 << 20


def pool_of(*backends: Backend, slots: int = 4, deterministic: bool = False) -> Pool:
    """Make a pool whose endpoints may share a text."""
    ports = [one.port for one in backends]
    return make_pool(
        "tts", ports, slots=slots, kind="speech", repeatable=True, interchangeable=True, deterministic=deterministic
    )


async def asked(made: Front, text: str = LONG, audio_format: str = "pcm", fields: bytes = b"") -> bytes | None:
    """Ask for a text; return the sound of a whole answer."""
    sent = request(text, audio_format).replace(b"Host: x\r\n", b"Host: x\r\n" + fields, 1)
    return unchunk((await made.call(sent)).partition(b"\r\n\r\n")[2])


async def settled(made: Front, one: Backend) -> int:
    """Wait until nothing more is asked for, though there is more to say; return how much was."""
    asked_for = -1
    while asked_for != len(one.requests):
        asked_for = len(one.requests)
        await eventually(lambda: all(upstream.held for upstream in made.relay.connections.all if upstream.served))
        await asyncio.sleep(0.2)
    return asked_for


async def test_a_caller_who_reads_late_hears_everything() -> None:
    """Far more than is buffered, in many parts: it goes on when the caller does."""
    loud = bytes(MEGABYTE)
    async with backend(lambda *_: response(loud)) as one:
        pool = pool_of(one)
        async with front(pool, settings=RelaySettings(buffers_limit=2 * MEGABYTE)) as made:
            reader, writer = await made.connect()
            writer.write(request(MANY))
            before = await settled(made, one)
            answer = await reader.read()
            writer.close()
            parts = len(one.requests)
            assert before < parts
            assert unchunk(answer.partition(b"\r\n\r\n")[2]) == loud * parts
            assert made.relay.stats_of(pool).parts == parts


async def test_a_deadline_ends_nothing_that_is_heard() -> None:
    """It is for the beginning: parts that wait longer are spoken all the same."""
    gate = asyncio.Event()

    async def answer(head: bytes, body: bytes) -> bytes:
        if len(one.requests) > 1:
            await gate.wait()
        return speaking(head, body)

    async with backend(answer) as one:
        pool = pool_of(one, slots=1)
        async with front(pool) as made:
            call = asyncio.create_task(asked(made, fields=b"X-Sovren-Deadline-Ms: 200\r\n"))
            await eventually(lambda: len(one.requests) == 2)
            started = asyncio.get_running_loop().time()
            await eventually(lambda: asyncio.get_running_loop().time() - started > 0.3)
            gate.set()
            assert await call == sound(LONG)


@pytest.mark.parametrize("deterministic", [False, True])
async def test_a_header_may_come_in_two_pieces(*, deterministic: bool) -> None:
    """Nothing is passed on before its form is known, whatever the other parts have brought."""
    turn = itertools.count()
    gate = asyncio.Event()

    async def split(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await read_request(reader)
            answer = response(wav(text_of(body)), media_type="audio/wav")
            cut = answer.index(b"RIFF") + 20
            if next(turn):
                writer.write(answer)
                await writer.drain()
                gate.set()
                continue
            writer.write(answer[:cut])
            await writer.drain()
            await gate.wait()
            writer.write(answer[cut:])

    async with backend(raw=split) as one:
        pool = pool_of(one, deterministic=deterministic)
        async with front(pool) as made:
            whole = await asked(made, audio_format="wav")
            assert whole is not None
            assert whole.endswith(sound(LONG))
            assert whole[8:16] == b"WAVEfmt "
            assert not made.relay.stats_of(pool).parts_repeated


async def test_each_wait_for_a_slot_is_counted_once() -> None:
    """One for each part."""
    async with backend(speaking) as one:
        pool = pool_of(one)
        async with front(pool) as made:
            await asked(made)
            stats = made.relay.stats_of(pool)
            assert stats.queue_wait.count == stats.parts
