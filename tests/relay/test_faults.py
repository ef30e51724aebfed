"""Mixed faults over real sockets: no bytes mixed, no broken answer that looks whole, and every counter at zero."""

import asyncio
import random

from harness import Front, backend, eventually, front, make_pool, read_request

CALLS = 300
PIECE = 3000


def words(number: int) -> bytes:
    """Return the one right answer to a request."""
    return (b"<%d>" % number) * PIECE


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dice: random.Random) -> None:
    """Answer requests until a fault is rolled."""
    while True:
        _, body = await read_request(reader)
        said = words(int(body))
        half = len(said) // 2
        match dice.choice(("sized", "chunked", "slow", "reset", "silent", "truncated", "garbage", "close", "unframed")):
            case "sized":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said))
            case "chunked":
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                writer.writelines(b"%x\r\n%s\r\n" % (len(part), part) for part in (said[:half], said[half:]))
                writer.write(b"0\r\n\r\n")
            case "slow":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said[:half]))
                await writer.drain()
                await asyncio.sleep(dice.random() / 100)
                writer.write(said[half:])
            case "reset":
                writer.transport.abort()
            case "silent":
                return
            case "truncated":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said[:half]))
                return
            case "garbage":
                writer.write(b"\x00\x01garbage\r\n\r\n")
            case "close":
                writer.write(
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said)
                )
                return
            case "unframed":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + said)
                return
        await writer.drain()


def unchunk(body: bytes) -> bytes | None:
    """Return a whole chunked body's bytes; None if its end is missing."""
    whole = b""
    while body:
        line, _, body = body.partition(b"\r\n")
        size = int(line, 16)
        if not size:
            return whole
        if len(body) < size + 2:
            return None
        whole, body = whole + body[:size], body[size + 2 :]
    return None


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
    whole = unchunk(body) if b"chunked" in head else body
    if whole is None or (b"Content-Length" in head and len(whole) < len(words(number))):
        assert whole is None or words(number).startswith(whole)
        return "broken"
    assert whole == words(number), "another request's bytes"
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
