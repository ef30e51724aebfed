"""Two generations of the relay over the same endpoints: slots are hard over both, and who was accepted is served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from harness import Backend, Front, backend, eventually, front, make_pool, unchunk
from test_relay import GET, OK
from test_tunnel import OFFER, echo
from voices import LONG, Speak, request, sound, speaking

from pools.settings import QueueSettings
from sovren_edge.process.channel import Channel, channel_pair
from sovren_edge.relay.generations import Predecessor, Successor


class Engine:
    """Answers when it is let, and counts how many requests it has at once."""

    def __init__(self, speak: Speak = lambda _head, _body: OK) -> None:
        self.running = self.most = 0
        self.may_end = asyncio.Semaphore(0)
        self._speak = speak

    async def __call__(self, head: bytes, body: bytes) -> bytes:
        """Answer one request."""
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.may_end.acquire()
            made = self._speak(head, body)
            return made if isinstance(made, bytes) else await made
        finally:
            self.running -= 1


class Handover:
    """An old front's slots, shared with a new one over real channels."""

    def __init__(self, old: Front, new: Front, successor: Successor) -> None:
        its, ours = channel_pair()
        self.predecessor = Predecessor(new.relay, {pool.name: pool for pool in new.pools})
        self.newer = Channel(ours, self.predecessor.methods())
        self.predecessor.begin(self.newer)
        self.older = Channel(its, successor.methods())
        successor.begin(self.older)
        old.relay.draining = True

    async def end(self, closing: Channel) -> None:
        """Have one of the two go."""
        closing.close()
        await self.newer.closed.wait()
        self.predecessor.closed()


@asynccontextmanager
async def handed_over(old: Front, new: Front) -> AsyncIterator[Handover]:
    """Begin sharing; the old one goes at the end."""
    made = Handover(old, new, Successor(old.relay, {pool.name: pool for pool in old.pools}))
    async with asyncio.timeout(30):
        await made.predecessor.known.wait()
    yield made
    await eventually(lambda: not any(one.busy for one in old.relay.downstreams))
    await made.end(made.older)


async def calls(edge: Front, count: int, *, waiting: int) -> list[asyncio.Task[bytes]]:
    """Have requests under way, and so many of them in the queue."""
    tasks = [asyncio.ensure_future(edge.call(GET)) for _ in range(count)]
    await eventually(lambda: edge.pools[0].waiting == waiting)
    return tasks


async def let_all_end(engines: list[Engine], tasks: list[asyncio.Task[bytes]]) -> list[bytes]:
    """Let requests end one by one, here and there."""
    while not all(task.done() for task in tasks):
        await eventually(lambda: any(one.running for one in engines) or all(task.done() for task in tasks))
        for engine in engines:
            if engine.running:
                engine.may_end.release()
                await asyncio.sleep(0)
    return [task.result() for task in tasks]


async def test_slots_are_hard_over_both() -> None:
    """What runs goes on, what waits is served in its turn, and in the end the new one has every slot."""
    engines = [Engine(), Engine()]
    async with backend(engines[0]) as one, backend(engines[1]) as two:
        ports = [one.port, two.port]
        async with front(make_pool("p", ports, slots=2)) as old, front(make_pool("p", ports, slots=2)) as new:
            tasks = await calls(old, 7, waiting=3)
            async with handed_over(old, new):
                assert [pool.inflight for pool in (*old.pools, *new.pools)] == [4, 4]
                tasks += await calls(new, 5, waiting=8)
                answers = await let_all_end(engines, tasks)
                await eventually(lambda: not new.pools[0].inflight)
            assert all(answer.endswith(b"hello") for answer in answers)
            assert [engine.most for engine in engines] == [2, 2]
            assert [endpoint.free for endpoint in new.pools[0].endpoints] == [2, 2]
            assert not any(endpoint.limit for endpoint in old.pools[0].endpoints)


async def test_who_waits_is_lent_what_the_new_one_has() -> None:
    """Also a request that comes when the old one has no slots at all."""
    engine = Engine()
    async with backend(engine) as one:
        pools = [make_pool("p", [one.port], slots=1) for _ in range(2)]
        async with front(pools[0]) as old, front(pools[1]) as new:
            reader, writer = await old.connect()
            async with handed_over(old, new):
                assert old.pools[0].endpoints[0].limit == 0
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await eventually(lambda: engine.running)
                assert (pools[0].inflight, pools[1].inflight) == (1, 1)
                engine.may_end.release()
                # It is the last one of its connection.
                assert b"\r\nConnection: close\r\n" in await reader.read()
                writer.close()
                await eventually(lambda: not pools[1].inflight)


async def test_a_text_in_parts_goes_on() -> None:
    """Its further parts are spoken with slots that the new one lends, before those who wait there."""
    engines = [Engine(speaking), Engine(speaking)]
    async with backend(engines[0]) as one, backend(engines[1]) as two:
        ports = [one.port, two.port]
        pools = [make_pool("p", ports, slots=1, kind="speech", interchangeable=True) for _ in range(2)]
        async with front(pools[0]) as old, front(pools[1]) as new:
            text = asyncio.ensure_future(old.call(request()))
            await eventually(lambda: pools[0].inflight == 2 and pools[0].waiting)
            async with handed_over(old, new):
                others = [asyncio.ensure_future(new.call(request(f"Short {number}."))) for number in range(4)]
                await eventually(lambda: pools[1].waiting >= 4)
                answers = await let_all_end(engines, [text, *others])
                await eventually(lambda: not pools[1].inflight)
            assert unchunk(answers[0].partition(b"\r\n\r\n")[2]) == sound(LONG)
            assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
            assert [engine.most for engine in engines] == [1, 1]


async def test_another_successor_is_told_everything_anew() -> None:
    """When the first has died, whoever waits goes on waiting, and the slots of the dead are free."""
    engine = Engine()
    async with backend(engine) as one:
        pools = [make_pool("p", [one.port], slots=2) for _ in range(3)]
        async with front(pools[0]) as old, front(pools[1]) as first, front(pools[2]) as second:
            tasks = await calls(old, 4, waiting=2)
            successor = Successor(old.relay, {"p": pools[0]})
            made = Handover(old, first, successor)
            await eventually(made.predecessor.known.is_set)
            await eventually(lambda: pools[1].waiting == 2)
            await made.end(made.newer)
            assert (pools[1].inflight, pools[1].waiting) == (0, 0)
            engine.may_end.release()
            await eventually(lambda: any(task.done() for task in tasks))
            made = Handover(old, second, successor)
            await eventually(lambda: (pools[2].inflight, pools[2].waiting) == (2, 1))
            tasks += await calls(second, 2, waiting=3)
            assert all(answer.endswith(b"hello") for answer in await let_all_end([engine], tasks))
            await made.end(made.older)
            assert engine.most == 2


async def test_when_the_old_one_dies_its_slots_are_free() -> None:
    """At once."""
    engine = Engine()
    async with backend(engine) as one:
        pools = [make_pool("p", [one.port], slots=1) for _ in range(2)]
        async with front(pools[0]) as old, front(pools[1]) as new:
            tasks = await calls(old, 2, waiting=1)
            made = Handover(old, new, Successor(old.relay, {"p": pools[0]}))
            await eventually(made.predecessor.known.is_set)
            tasks += await calls(new, 1, waiting=2)
            old.relay.close()
            await made.end(made.older)
            assert (pools[1].inflight, pools[1].waiting) == (1, 0)
            engine.may_end.release()
            engine.may_end.release()
            assert (await tasks[2]).endswith(b"hello")
            assert await asyncio.gather(*tasks[:2]) == [b"", b""]


async def test_what_the_new_one_does_not_know_is_the_old_ones_alone() -> None:
    """A pool or an endpoint that has left the configuration serves to their end those who were accepted for it."""
    engines = [Engine(), Engine()]
    async with backend(engines[0]) as gone, backend(engines[1]) as moved, backend(lambda _h, _b: OK) as other:
        pools = [make_pool(name, [one.port], slots=1) for name, one in (("gone", gone), ("moved", moved))]
        async with (
            front(pools[0]) as first,
            front(pools[1]) as second,
            front(make_pool("moved", [other.port], slots=1)) as new,
        ):
            tasks = await calls(first, 3, waiting=2) + await calls(second, 3, waiting=2)
            # Both pools are one process's.
            first.pools.append(pools[1])
            async with handed_over(first, new):
                await eventually(lambda: all(pool.endpoints[0].allotted is None for pool in pools))
                assert (await new.call(GET)).endswith(b"hello")
                answers = await let_all_end(engines, tasks)
            assert all(answer.endswith(b"hello") for answer in answers)
            assert [engine.most for engine in engines] == [1, 1]
            assert not new.pools[0].inflight


async def test_what_the_new_one_cannot_reach_is_refused() -> None:
    """It knows better who is ready; the old one asks again when a second has passed."""
    engine = Engine()
    async with backend(engine) as one:
        pools = [make_pool("p", [one.port], slots=1, ready=ready) for ready in (True, False)]
        async with front(pools[0]) as old, front(pools[1]) as new:
            tasks = await calls(old, 2, waiting=1)
            async with handed_over(old, new):
                assert b'"no_endpoint_ready"' in await tasks[1]
                engine.may_end.release()
                assert (await tasks[0]).endswith(b"hello")


async def test_a_waiter_of_the_old_one_leaves_or_waits_too_long() -> None:
    """Then it waits nowhere any more."""
    engine = Engine()
    queue = QueueSettings(timeout_s=0.5)
    async with backend(engine) as one:
        pools = [make_pool("p", [one.port], slots=1, queue=queue) for _ in range(2)]
        async with front(pools[0]) as old, front(pools[1]) as new:
            tasks = await calls(old, 3, waiting=2)
            async with handed_over(old, new):
                await eventually(lambda: pools[1].waiting == 2)
                tasks[1].cancel()
                await eventually(lambda: pools[1].waiting == 1)
                assert b'"queue_timeout"' in await tasks[2]
                await eventually(lambda: not pools[1].waiting)
                engine.may_end.release()
                assert (await tasks[0]).endswith(b"hello")


async def cut(one: Backend, edge: Front) -> int:
    """End a relay that has one tunnel."""
    reader, writer = await edge.connect()
    writer.write(OFFER)
    await reader.readuntil(b"\r\n\r\n")
    assert edge.pools[0].inflight == 1
    count = edge.relay.close()
    assert await reader.read() == b""
    await eventually(lambda: not one.open)
    writer.close()
    return count


async def test_a_tunnel_that_is_cut_is_counted_and_its_slot_free() -> None:
    """As any other request."""
    async with echo() as one:
        pools = [make_pool("p", [one.port], slots=1) for _ in range(2)]
        async with front(pools[0]) as old, front(pools[1]) as new, handed_over(old, new):
            assert await cut(one, old) == 1
            await eventually(lambda: not pools[1].inflight)
