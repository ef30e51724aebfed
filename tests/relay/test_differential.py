"""One request as the edge understands it is one request as the endpoint understands it, whatever was sent.

Mutants of valid and of hostile messages go through the edge to real servers. What each server understood is held
against the lines of the edge's access log: as many requests, with the same method, path and body; none that it refuses.
"""

import asyncio
from types import SimpleNamespace

import pytest
from harness import Front, eventually, front, make_pool
from mutants import SMUGGLED, load, mutants, slices, try_out_here
from recorders import RECORDERS, Recorded, Take

EXAMPLES = 120
BAD_REQUEST, CALLER_LEFT = 400, 499


async def send(edge: Front, pieces: list[bytes]) -> None:
    """Send bytes as a caller, and leave when nothing more happens."""
    reader, writer = await edge.connect()
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        for _ in range(100):
            try:
                async with asyncio.timeout(0.02):
                    if not await reader.read(1 << 16):
                        return
            except TimeoutError:
                if not edge.pools[0].inflight:
                    return
    except ConnectionError:
        pass
    finally:
        writer.close()


def agree(line: SimpleNamespace, request: Recorded) -> bool:
    """Whether a line of the log tells of this request."""
    path = request.target.partition("?")[0]
    return (line.method, line.path, line.received) == (request.method, path, len(request.body))


def assert_one_reading(lines: list[SimpleNamespace], requests: list[Recorded]) -> None:
    """Each request that an endpoint answered is one line, in order; what was cut short may be one, or none."""
    waiting = list(requests)
    for line in lines:
        if not line.endpoint:
            continue
        if line.status == CALLER_LEFT or line.ended != "complete":
            if waiting and agree(line, waiting[0]):
                waiting.pop(0)
            continue
        assert line.status < BAD_REQUEST, f"the endpoint refused what the edge forwarded: {line}"
        assert waiting, f"the endpoint saw no request of its own for {line}"
        assert agree(line, waiting.pop(0)), f"{line} is not what the endpoint saw: {requests}"
    assert not waiting, f"the endpoint saw what the edge did not forward: {waiting}"


@pytest.mark.parametrize("name", RECORDERS)
async def test_servers_understand_what_the_edge_understood(name: str) -> None:
    """Neither two requests of one, nor one of two."""
    compared = 0

    async def check(pieces: list[bytes]) -> None:
        nonlocal compared
        compared += await compare(edge, take, pieces)

    async with RECORDERS[name]() as (port, take), front(make_pool("p", [port])) as edge:
        for message in load("requests"):
            await check([message, SMUGGLED])
        await try_out_here(slices(mutants("requests")), check, EXAMPLES)
    assert compared > EXAMPLES / 4, "too little came through to compare"


async def compare(edge: Front, take: Take, pieces: list[bytes]) -> int:
    """Send one mutant and hold both readings against each other; return how many requests the endpoint understood."""
    edge.lines.clear()
    await send(edge, pieces)
    await eventually(lambda: edge.at_rest and not edge.relay.downstreams)
    requests = await take()
    assert_one_reading(edge.lines, requests)
    # Ejected for its answers, the endpoint would see no further mutant.
    assert edge.pools[0].endpoints[0].ready
    return len(requests)
