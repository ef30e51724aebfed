"""Mixed faults over real sockets: no bytes mixed, no broken answer that looks whole, and every counter at zero."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from harness import Backend, Front, backend, eventually, front, make_pool, read_request, unchunk

from pools.pool import Pool

CALLS = 300
PIECE = 3000


def words(number: int) -> bytes:
    """Return the one right answer to a request."""
    return (b"<%d>" % number) * PIECE


def whole(said: bytes) -> list[bytes]:
    """Answer as it should be."""
    return [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said)]


def chunked(said: bytes) -> list[bytes]:
    """Answer in two chunks."""
    parts = (said[: len(said) // 2], said[len(said) // 2 :])
    framed = [b"%x\r\n%s\r\n" % (len(part), part) for part in parts]
    return [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *framed, b"0\r\n\r\n"]


def halved(said: bytes) -> list[bytes]:
    """Answer in two pieces, with a pause between them."""
    (answer,) = whole(said)
    return [answer[: len(answer) // 2], answer[len(answer) // 2 :]]


@dataclass(frozen=True)
class Behaviour:
    """What an endpoint says to a request, and whether its connection goes on."""

    say: Callable[[bytes], list[bytes]]
    goes_on: bool = True
    resets: bool = False


BEHAVIOURS = (
    Behaviour(whole),
    Behaviour(chunked),
    Behaviour(halved),
    Behaviour(lambda _said: [], goes_on=False, resets=True),
    Behaviour(lambda _said: [], goes_on=False),
    Behaviour(lambda said: halved(said)[:1], goes_on=False),
    Behaviour(lambda _said: [b"\x00\x01garbage\r\n\r\n"]),
    Behaviour(lambda said: [b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + whole(said)[0][17:]], goes_on=False),
    Behaviour(lambda said: [b"HTTP/1.1 200 OK\r\n\r\n" + said], goes_on=False),
)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dice: random.Random) -> None:
    """Answer requests until a fault ends the connection."""
    behaviour = BEHAVIOURS[0]
    while behaviour.goes_on:
        _, body = await read_request(reader)
        behaviour = dice.choice(BEHAVIOURS)
        for piece in behaviour.say(words(int(body))):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(dice.random() / 200)
    if behaviour.resets:
        writer.transport.abort()


async def call(edge: Front, number: int, dice: random.Random) -> str:
    """Make one call, sometimes leave; return what came of it."""
    await asyncio.sleep(dice.random() / 2)
    reader, writer = await edge.connect()
    try:
        said = b"%d" % number
        writer.write(
            b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said)
        )
        if dice.random() < 0.2:
            await asyncio.sleep(dice.random() / 50)
            return "left"
        async with asyncio.timeout(20):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    except ConnectionError:
        return "broken"
    finally:
        writer.close()
    status = head.split(b" ")[1]
    if status in {b"502", b"503"}:
        return "refused"
    said = unchunk(body) if b"chunked" in head else body
    if said is None or (b"Content-Length" in head and len(said) < len(words(number))):
        assert said is None or words(number).startswith(said)
        return "broken"
    assert said == words(number), "another request's bytes"
    return "whole"


async def test_mixed_faults_leave_nothing_behind() -> None:
    """Whatever endpoints and callers do."""
    dice = random.Random(7)
    async with (
        backend(raw=lambda r, w: answer(r, w, dice)) as one,
        backend(raw=lambda r, w: answer(r, w, dice)) as two,
        backend(raw=lambda r, w: answer(r, w, dice)) as three,
    ):
        pool = make_pool("p", [one.port, two.port, three.port], slots=4, repeatable=True)
        async with front(pool) as edge:
            outcomes = await asyncio.gather(*(call(edge, number, dice) for number in range(CALLS)))
            await eventually(lambda: edge.at_rest)
            assert len(edge.lines) == CALLS
    assert [endpoint.inflight for endpoint in pool.endpoints] == [0, 0, 0]
    assert outcomes.count("whole") > CALLS / 5
    assert {"whole", "broken", "left"} <= set(outcomes)


async def test_a_slot_that_is_granted_during_the_end_connects_to_nobody() -> None:
    """The end of one caller grants a slot to another whose own end is still to be told."""
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    answered = asyncio.Event()

    async def silent(_head: bytes, _body: bytes) -> bytes:
        await answered.wait()
        return b""

    async def end(pool: Pool, one: Backend) -> None:
        async with front(pool) as edge:
            callers = [await edge.connect() for _ in range(20)]
            for _, writer in callers:
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await eventually(lambda: pool.waiting == 19 and one.requests)
            for _, writer in callers:
                writer.close()
            raise RuntimeError("all at once")

    async with backend(silent) as one:
        pool = make_pool("p", [one.port], slots=1)
        with pytest.raises(ExceptionGroup) as ended:
            await end(pool, one)
        assert ended.group_contains(RuntimeError, match="all at once")
        await eventually(lambda: not (pool.inflight or pool.waiting))
        assert one.connections == 1
        answered.set()
    assert not told
