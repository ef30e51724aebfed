"""Grants that a successor makes: what goes over the line, and what becomes of grants while nobody can tell."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import orjson
import pytest

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.limit.asked_grants import Answering, AskedGrants, read_decision, write_decision
from sovren_edge.gateway.limit.grants import LocalGrants
from sovren_edge.gateway.limit.limiter import Crowded, Decision, Exceeded, Granted, Limiter, NotSeeded, Quota
from sovren_edge.gateway.limit.present_grants import PresentGrants
from sovren_edge.process.channel import Channel, channel_pair

HOUR_US, NOW_US = 3_600_000_000, 1_000_000_000_000
QUOTA = Quota(2, 1, NOW_US, NOW_US + HOUR_US)


class Both:
    """A limiter of two an hour, and grants that ask for it over a real channel."""

    def __init__(self) -> None:
        self.limiter = Limiter(lambda: 2, HOUR_US)
        self.limiter.finish_seeding()
        self.clock = SimpleNamespace(us=NOW_US)
        self.own = LocalGrants(self.limiter, lambda: self.clock.us, "boot")
        self.present = PresentGrants(self.own)
        self.present.turn_to(self.own)
        self.answering = Answering(self.present)
        ours, theirs = channel_pair()
        self.near = Channel(ours, {})
        self.far = Channel(theirs, self.answering.methods("gateway"))
        self.grants = AskedGrants(self.near, "gateway", lambda: self.clock.us, "boot")

    async def granted(self, grant_id: str) -> Granted:
        """Return a grant."""
        decision = await self.grants.grant("ann", grant_id)
        assert isinstance(decision, Granted)
        return decision

    async def used(self) -> int:
        """Return how many count, once all that was told has come."""
        return (await self.grants.look("ann")).used


@pytest.fixture
async def both() -> AsyncIterator[Both]:
    """Make both ends."""
    both = Both()
    yield both
    both.near.close()
    both.far.close()


@pytest.mark.parametrize("decision", [Granted(NOW_US, QUOTA), Exceeded(QUOTA), Crowded(QUOTA), NotSeeded()])
def test_decisions_survive_the_way(decision: Decision) -> None:
    """As JSON."""
    assert read_decision(orjson.loads(orjson.dumps(write_decision(decision)))) == decision


def test_an_unknown_decision_grants_nothing() -> None:
    """It comes from a newer version than this one."""
    assert read_decision({"is": "maybe"}) == NotSeeded()


async def test_a_successor_is_asked_as_one_would_be_here(both: Both) -> None:
    """Granted, confirmed, settled or refunded; a refusal is remembered for a moment, until a place is free."""
    first = await both.granted("a")
    assert await both.grants.confirm("ann", "a", first) == first
    await both.granted("b")
    refused = await both.grants.grant("ann", "c")
    assert isinstance(refused, Exceeded)
    assert both.grants.noted("ann") == refused
    await both.grants.refund("ann", "b")
    assert both.grants.noted("ann") is None
    await both.grants.settle("ann", "a")
    assert await both.used() == 1
    assert both.limiter.inflight == 0
    assert both.grants.now_us() == NOW_US


async def test_what_the_successor_does_not_know_is_not_confirmed(both: Both) -> None:
    """A grant that one before it has made, and taken along."""
    assert await both.grants.confirm("ann", "a", Granted(NOW_US, QUOTA)) == NotSeeded()
    both.answering.open([("ann", "a")])
    assert await both.grants.confirm("ann", "a", Granted(NOW_US, QUOTA)) == Granted(NOW_US, QUOTA)


async def test_a_caller_that_leaves_keeps_no_grant(both: Both) -> None:
    """Whether or not it was granted meanwhile."""
    asking = asyncio.ensure_future(both.grants.grant("ann", "a"))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await both.used() == 0


async def test_when_the_line_ends_nobody_is_granted_anything(both: Both) -> None:
    """And what was in flight has ended, charged."""
    granted = await both.granted("a")
    both.near.close()
    for asked in (both.grants.grant("ann", "b"), both.grants.confirm("ann", "a", granted), both.grants.look("ann")):
        with pytest.raises(EdgeError, match="does not answer"):
            await asked
    await both.grants.settle("ann", "a")
    await both.grants.refund("ann", "a")
    await both.far.closed.wait()
    assert both.limiter.inflight == 1
    await both.answering.end()
    assert (both.limiter.inflight, both.limiter.entries) == (0, 1)


async def test_a_successor_that_does_not_answer_is_not_waited_for(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than a while; what it grants all the same is given back."""
    monkeypatch.setattr("sovren_edge.gateway.limit.asked_grants.ANSWER_S", 0.01)
    both.present.hold()
    with pytest.raises(EdgeError, match="does not answer"):
        await both.grants.grant("ann", "a")
    monkeypatch.undo()
    both.present.turn_to(both.own)
    assert await both.used() == 0
    assert await both.grants.confirm("ann", "a", Granted(NOW_US, QUOTA)) == NotSeeded()


async def test_while_nobody_grants_calls_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """None fails, unless it takes too long; ends are never told of as faults."""
    limiter = Limiter(lambda: 2, HOUR_US)
    limiter.finish_seeding()
    own = LocalGrants(limiter, lambda: NOW_US, "boot")
    present = PresentGrants(own)
    assert (present.clock, present.now_us(), present.noted("ann")) == ("boot", NOW_US, None)
    asked = [asyncio.ensure_future(call) for call in (present.grant("ann", "a"), present.look("ann"))]
    await asyncio.sleep(0)
    assert not any(one.done() for one in asked)
    present.turn_to(own)
    granted, _ = await asyncio.gather(*asked)
    assert isinstance(granted, Granted)
    assert await present.confirm("ann", "a", granted) == granted
    present.hold()
    monkeypatch.setattr("sovren_edge.gateway.limit.present_grants.PATIENCE_S", 0.01)
    await present.settle("ann", "a")
    await present.refund("ann", "a")
    assert limiter.inflight == 1
    with pytest.raises(EdgeError, match="does not answer"):
        await present.look("ann")
    present.turn_to(own)
    await present.settle("ann", "a")
    assert limiter.inflight == 0
    await present.grant("ann", "b")
    await present.refund("ann", "b")
    assert limiter.entries == 1
    await present.grant("ann", "c")
    refused = await present.grant("ann", "d")
    assert present.noted("ann") == refused
