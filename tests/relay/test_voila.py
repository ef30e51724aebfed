"""Calls of Voila: each a WebSocket on the first of three tiers that is ready when it comes, and there until its end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import orjson
import pytest
from harness import Backend, Front, backend, eventually, front, make_pool, read_request
from test_tunnel import OFFER, SWITCH

from pools.admission import Lease, Outcome
from pools.health import ProbeResult
from pools.outlier import BASE_S, CONSECUTIVE_ERRORS
from pools.tiers import FAIL_BACK_S

NAMES = ("primary", "secondary", "tertiary")
PRIMARY, SECONDARY, TERTIARY = range(3)
BACK = (ProbeResult.GOOD, ProbeResult.GOOD)


class Clock:
    """Tells the loop's time, and runs ahead of it by as much as a test says."""

    def __init__(self, time: Callable[[], float]) -> None:
        self.ahead_s = 0.0
        self._time = time

    def __call__(self) -> float:
        """Return the time."""
        return self._time() + self.ahead_s


@dataclass
class Call:
    """A caller's tunnel, and the `tier` at its other end."""

    tier: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def talk(self, what: bytes) -> None:
        """Say something, and hear it from the tier that took the call."""
        self.writer.write(what)
        async with asyncio.timeout(30):
            assert await self.reader.readexactly(len(what)) == what

    async def hang_up(self) -> None:
        """End the call, and hear the other side's end of it."""
        self.writer.write_eof()
        async with asyncio.timeout(30):
            assert await self.reader.read() == b"bye"
        self.writer.close()


@dataclass
class Voila:
    """A door with its three tiers, the endpoint of each, and a clock of its own.

    While `refusing`, the primary closes the connections of new calls.
    """

    edge: Front
    backends: list[Backend]
    clock: Clock
    refusing: asyncio.Event

    def see(self, tier: int, *results: ProbeResult) -> None:
        """Have a tier's endpoint probed."""
        pool = self.edge.pools[tier]
        for result in results:
            self.edge.relay.observe(pool, pool.endpoints[0], result)

    def fail(self, tier: int, times: int) -> None:
        """Have a tier's endpoint answer with errors, one after the other."""
        pool = self.edge.pools[tier]
        for _ in range(times):
            lease = pool.admit("somebody", self.clock())
            assert isinstance(lease, Lease)
            self.edge.relay.release(lease, Outcome.FAILED, self.clock())

    @property
    def inflight(self) -> list[int]:
        """Return the calls on each tier, as its pool counts them."""
        return [pool.inflight for pool in self.edge.pools]

    @property
    def connected(self) -> list[int]:
        """Return the connections to each tier, as its endpoint counts them."""
        return [one.open for one in self.backends]

    async def call(self) -> Call:
        """Begin a call."""
        reader, writer = await self.edge.connect()
        writer.write(OFFER)
        async with asyncio.timeout(30):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 "), head
            return Call((await reader.readline()).strip().decode(), reader, writer)


@asynccontextmanager
async def named_echo(name: str, refusing: asyncio.Event) -> AsyncIterator[Backend]:
    """Switch, say a name, and send back what comes until it ends; the primary closes instead while `refusing`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        one.requests.append(await read_request(reader))
        if refusing.is_set() and name == NAMES[PRIMARY]:
            return
        writer.write(SWITCH + name.encode() + b"\n")
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write(b"bye")

    async with backend(raw=serve) as one:
        yield one


@asynccontextmanager
async def voila(slots: int = 64) -> AsyncIterator[Voila]:
    """Serve three generic pools of one endpoint each as the tiers of a door."""
    async with AsyncExitStack() as stack:
        refusing = asyncio.Event()
        backends = [await stack.enter_async_context(named_echo(name, refusing)) for name in NAMES]
        named = zip(NAMES, backends, strict=True)
        pools = [make_pool(f"voila-{name}", [one.port], slots=slots) for name, one in named]
        edge = await stack.enter_async_context(front(*pools))
        clock = Clock(edge.relay.now)
        edge.relay.now = edge.relay.connections.now = clock
        yield Voila(edge, backends, clock, refusing)


async def end(made: Voila, *calls: Call) -> None:
    """Show that calls are where they began, and go on both ways, to their orderly end."""
    for call in calls:
        await call.talk(call.tier.encode() * 1000)
        await call.hang_up()
    await eventually(lambda: made.inflight == [0, 0, 0] and len(made.edge.lines) == len(calls))
    assert {(line.status, line.ended) for line in made.edge.lines} == {(101, "complete")}
    assert made.edge.door.stats.tunnels == 0
    await eventually(lambda: made.connected == [0, 0, 0])


async def test_all_calls_go_to_the_primary_while_it_is_ready() -> None:
    """The other tiers, which are ready as well, see no connection."""
    async with voila() as made:
        calls = [await made.call() for _ in range(5)]
        assert [call.tier for call in calls] == ["primary"] * 5
        assert (made.inflight, made.connected) == ([5, 0, 0], [5, 0, 0])
        await end(made, *calls)
        assert [one.connections for one in made.backends] == [5, 0, 0]


async def test_the_next_tier_takes_new_calls_only() -> None:
    """Each call goes on at the tier that took it, when that one, and the one after it, are no longer ready."""
    async with voila() as made:
        calls = [await made.call()]
        for tier in (PRIMARY, SECONDARY):
            made.see(tier, ProbeResult.REFUSED)
            calls.append(await made.call())
            for call in calls:
                await call.talk(b"still here")
        assert [call.tier for call in calls] == list(NAMES)
        assert (made.inflight, made.connected) == ([1, 1, 1], [1, 1, 1])
        await end(made, *calls)


async def test_the_primary_is_used_again_when_it_has_been_ready_for_ten_seconds() -> None:
    """Not before; and a call that the secondary took stays there for good."""
    async with voila() as made:
        calls = [await made.call()]
        made.see(PRIMARY, ProbeResult.REFUSED)
        calls.append(await made.call())
        made.see(PRIMARY, *BACK)
        assert made.edge.pools[PRIMARY].ready
        calls.append(await made.call())
        made.clock.ahead_s += FAIL_BACK_S - 1
        calls.append(await made.call())
        made.clock.ahead_s += 1
        calls.append(await made.call())
        assert [call.tier for call in calls] == ["primary", "secondary", "secondary", "secondary", "primary"]
        assert made.inflight == [2, 3, 0]
        await end(made, *calls)


async def test_a_primary_that_goes_again_begins_its_ten_seconds_anew() -> None:
    """What counts is how long it has been ready without a break."""
    async with voila() as made:
        made.see(PRIMARY, ProbeResult.REFUSED, *BACK)
        made.clock.ahead_s += FAIL_BACK_S - 1
        made.see(PRIMARY, ProbeResult.REFUSED, *BACK)
        made.clock.ahead_s += FAIL_BACK_S - 1
        calls = [await made.call()]
        made.clock.ahead_s += 1
        calls.append(await made.call())
        assert [call.tier for call in calls] == ["secondary", "primary"]
        await end(made, *calls)


async def test_one_good_probe_does_not_bring_the_primary_back() -> None:
    """However long ago it was: two are needed, and then ten seconds."""
    async with voila() as made:
        made.see(PRIMARY, ProbeResult.REFUSED, ProbeResult.GOOD)
        made.clock.ahead_s += 10 * FAIL_BACK_S
        calls = [await made.call()]
        made.see(PRIMARY, ProbeResult.GOOD)
        calls.append(await made.call())
        made.clock.ahead_s += FAIL_BACK_S
        calls.append(await made.call())
        assert [call.tier for call in calls] == ["secondary", "secondary", "primary"]
        await end(made, *calls)


async def test_each_tier_comes_back_by_itself() -> None:
    """The tertiary serves until another one has been back for ten seconds, and the secondary until the primary has."""
    async with voila() as made:
        made.see(PRIMARY, ProbeResult.REFUSED)
        made.see(SECONDARY, ProbeResult.REFUSED)
        calls = [await made.call()]
        made.see(SECONDARY, *BACK)
        calls.append(await made.call())
        made.clock.ahead_s += FAIL_BACK_S
        made.see(PRIMARY, *BACK)
        calls.append(await made.call())
        made.clock.ahead_s += FAIL_BACK_S
        calls.append(await made.call())
        assert [call.tier for call in calls] == ["tertiary", "tertiary", "secondary", "primary"]
        await end(made, *calls)


async def test_a_tier_that_has_just_come_back_is_used_when_nobody_else_is_ready() -> None:
    """Nobody is refused for the sake of the ten seconds; those that came back are used in their order."""
    async with voila() as made:
        made.see(PRIMARY, ProbeResult.REFUSED, *BACK)
        made.see(SECONDARY, ProbeResult.REFUSED, *BACK)
        calls = [await made.call()]
        made.see(TERTIARY, ProbeResult.REFUSED)
        calls.append(await made.call())
        made.see(PRIMARY, ProbeResult.REFUSED)
        calls.append(await made.call())
        assert [call.tier for call in calls] == ["tertiary", "primary", "secondary"]
        await end(made, *calls)


async def test_calls_go_on_when_no_tier_is_ready() -> None:
    """New ones are refused with a reason, and told when to come again."""
    async with voila() as made:
        calls = [await made.call()]
        for tier in (PRIMARY, SECONDARY):
            made.see(tier, ProbeResult.REFUSED)
            calls.append(await made.call())
        made.see(TERTIARY, ProbeResult.REFUSED)
        reader, writer = await made.edge.connect()
        writer.write(OFFER)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in head
        problem = await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
        assert orjson.loads(problem)["reason"] == "no_endpoint_ready"
        writer.close()
        made.edge.lines.clear()
        await end(made, *calls)


async def test_readiness_may_come_and_go_over_a_call_s_head() -> None:
    """It never notices: neither a flip of its own tier nor of another one moves or cuts it, however often."""
    async with voila() as made:
        calls = [await made.call()]
        made.see(PRIMARY, ProbeResult.REFUSED)
        calls.append(await made.call())
        for number in range(12):
            made.see(PRIMARY, *BACK, ProbeResult.REFUSED)
            made.see(SECONDARY, ProbeResult.BAD, ProbeResult.BAD, ProbeResult.BAD, *BACK)
            made.clock.ahead_s += FAIL_BACK_S / 2
            for call in calls:
                await call.talk(b"%d" % number)
        assert [call.tier for call in calls] == ["primary", "secondary"]
        assert made.connected == [1, 1, 0]
        assert [one.connections for one in made.backends] == [1, 1, 0]
        await end(made, *calls)


async def test_an_ejected_primary_keeps_the_calls_that_it_has() -> None:
    """Errors in a row send new ones to the secondary, until it has been back from that for ten seconds."""
    async with voila() as made:
        calls = [await made.call()]
        made.fail(PRIMARY, CONSECUTIVE_ERRORS)
        assert not made.edge.pools[PRIMARY].ready
        calls.append(await made.call())
        made.clock.ahead_s += 2 * BASE_S
        made.edge.relay.sweep()
        assert made.edge.pools[PRIMARY].ready
        calls.append(await made.call())
        assert [call.tier for call in calls] == ["primary", "secondary", "secondary"]
        await end(made, *calls)


async def test_a_primary_back_from_an_ejection_lets_nobody_wait_for_an_older_call_to_end() -> None:
    """A call that has outlasted the ejection says nothing about it; whoever calls is taken at once, by some tier."""
    async with voila() as made:
        older = await made.call()
        made.fail(PRIMARY, CONSECUTIVE_ERRORS)
        made.clock.ahead_s += 2 * BASE_S
        made.edge.relay.sweep()
        made.clock.ahead_s += FAIL_BACK_S
        newer = asyncio.create_task(made.call())
        await eventually(lambda: newer.done() or made.edge.pools[PRIMARY].waiting)
        waits = made.edge.pools[PRIMARY].waiting
        await older.hang_up()
        await (await newer).hang_up()
        await eventually(lambda: len(made.edge.lines) == 2)
        assert not waits, "while 63 slots of the primary and 64 of the secondary are free"


async def test_a_primary_that_breaks_off_before_it_has_taken_a_call_costs_it_nothing() -> None:
    """The secondary takes it instead, and those that the primary has go on there."""
    async with voila() as made:
        calls = [await made.call()]
        made.refusing.set()
        calls.append(await made.call())
        made.refusing.clear()
        calls.append(await made.call())
        assert [call.tier for call in calls] == ["primary", "secondary", "primary"]
        await end(made, *calls)
        assert [line.attempts for line in made.edge.lines] == [1, 2, 1]


async def test_a_primary_that_refuses_a_call_costs_it_nothing() -> None:
    """The secondary takes it, and who was on the primary, which only listens no more, goes on there."""
    async with voila() as made:
        calls = [await made.call()]
        made.backends[PRIMARY].server.close()
        calls.append(await made.call())
        assert not made.edge.pools[PRIMARY].ready
        calls.append(await made.call())
        assert [call.tier for call in calls] == ["primary", "secondary", "secondary"]
        await end(made, *calls)
        assert [line.attempts for line in made.edge.lines] == [1, 2, 1]


async def test_a_primary_that_dies_takes_its_own_calls_along_and_no_other() -> None:
    """Their callers see the close at once, and find the secondary when they call again."""
    async with voila() as made:
        lost = await made.call()
        made.see(PRIMARY, ProbeResult.REFUSED)
        kept = await made.call()
        for writer in made.backends[PRIMARY].writers:
            writer.transport.abort()
        async with asyncio.timeout(30):
            assert await lost.reader.read() == b""
        lost.writer.close()
        again = await made.call()
        assert (kept.tier, again.tier) == ("secondary", "secondary")
        await eventually(lambda: made.inflight == [0, 2, 0])
        made.edge.lines.clear()
        await end(made, kept, again)


@pytest.mark.parametrize("result", [ProbeResult.REFUSED, ProbeResult.BAD])
async def test_who_waits_for_a_full_primary_goes_to_the_secondary_when_it_is_no_longer_ready(
    result: ProbeResult,
) -> None:
    """While it is ready they wait for it; the call that fills it goes on."""
    async with voila(slots=1) as made:
        calls = [await made.call()]
        waiting = asyncio.create_task(made.call())
        await eventually(lambda: made.edge.pools[PRIMARY].waiting)
        assert made.inflight == [1, 0, 0]
        made.see(PRIMARY, result, result, result)
        calls.append(await waiting)
        assert [call.tier for call in calls] == ["primary", "secondary"]
        await end(made, *calls)


async def test_who_waits_for_a_full_secondary_stays_in_line_when_the_primary_comes_back() -> None:
    """Until its turn there comes: the primary is for new calls, once it has been back for ten seconds."""
    async with voila(slots=1) as made:
        made.see(PRIMARY, ProbeResult.REFUSED)
        calls = [await made.call()]
        waiting = asyncio.create_task(made.call())
        await eventually(lambda: made.edge.pools[SECONDARY].waiting)
        made.see(PRIMARY, *BACK)
        made.clock.ahead_s += FAIL_BACK_S
        made.edge.relay.sweep()
        calls.append(await made.call())
        assert [call.tier for call in calls] == ["secondary", "primary"]
        assert not waiting.done()
        await calls.pop(0).hang_up()
        calls.append(await waiting)
        assert calls[-1].tier == "secondary"
        await eventually(lambda: made.edge.lines)
        made.edge.lines.clear()
        await end(made, *calls)
