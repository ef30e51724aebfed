"""What waits for consent in a real PostgreSQL, and how it is decided."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from handlers.executives.activity import Activities
from handlers.executives.approvals import Approval, Approvals, Decision
from handlers.executives.proposal import Proposal
from sovren_edge.handler import Database, EdgeError
from sovren_edge.store.database import open_database
from tests.executives.board import FOUNDER, NOON, SETTINGS, propose

# Of this database's connections: others are other tests'.
WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
OFFER = Proposal(
    action="Renew the lease.",
    type="contract",
    value=Decimal("1250.50"),
    currency="EUR",
    risk="high",
    expires_in_hours=2,
)


@pytest.fixture
def approvals(database: Database) -> Approvals:
    """Return the approvals."""
    return Approvals(database)


@pytest.fixture
async def others(executives_url: str) -> AsyncIterator[list[Approvals]]:
    """Return approvals that each have connections of their own, as processes have."""
    async with AsyncExitStack() as stack:
        yield [Approvals(await stack.enter_async_context(open_database(executives_url, SETTINGS))) for _ in range(2)]


async def waiting(approvals: Approvals, subscriber: str = FOUNDER, after: timedelta = timedelta()) -> list[Approval]:
    """Return what waits at a moment after noon."""
    found, total = await approvals.pending(subscriber, NOON + after, limit=100, offset=0)
    assert len(found) == total
    return [*found]


async def decide(
    approvals: Approvals, approval_id: UUID, decision: Decision, *, subscriber: str = FOUNDER, after: timedelta = HOUR
) -> Approval:
    """Decide at a moment after noon."""
    return await approvals.decide(subscriber, approval_id, decision, "As it is.", by=subscriber, now=NOON + after)


async def reason_of(calling: Awaitable[object]) -> tuple[int, str]:
    """Return how a call is refused."""
    with pytest.raises(EdgeError) as raised:
        await calling
    return raised.value.problem.status, raised.value.problem.reason


async def done(database: Database) -> list[str]:
    """Return what the founder's executives have done, the newest first."""
    found, _ = await Activities(database).page(FOUNDER, limit=100, offset=0)
    return [one.action for one in found]


async def test_a_proposal_waits(approvals: Approvals, database: Database) -> None:
    """As it was made, until it expires; that it was made is an activity."""
    proposed = await propose(database, FOUNDER, "cfo", OFFER, NOON)
    assert await waiting(approvals) == [proposed]
    assert proposed == Approval(
        id=proposed.id, executive_id="cfo", executive_name="Ingrid Solheim", action="Renew the lease.", type="contract",
        value=Decimal("1250.50"), currency="EUR", risk="high", created_at=NOON, expires_at=NOON + 2 * HOUR,
        decision=None, decided_by=None, decided_at=None, reason=None,
    )  # fmt: skip
    found, _ = await Activities(database).page(FOUNDER, limit=1, offset=0)
    assert (found[0].action, found[0].metadata) == ("approval_proposed", {"approvalId": str(proposed.id)})
    assert await waiting(approvals, after=2 * HOUR - SECOND) == [proposed]
    assert await waiting(approvals, after=2 * HOUR) == []
    assert await waiting(approvals, "ann") == []


async def test_the_first_to_expire_comes_first(approvals: Approvals, database: Database) -> None:
    """Pages together are the whole; what was decided waits no more."""
    for hours in (5, 3, 4, 1, 2):
        await propose(database, FOUNDER, "ceo", OFFER.model_copy(update={"expires_in_hours": hours}), NOON)
    whole = await waiting(approvals)
    assert [(one.expires_at - NOON) // HOUR for one in whole] == [1, 2, 3, 4, 5]
    pages = [await approvals.pending(FOUNDER, NOON, limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert [one for page, _ in pages for one in page] == whole
    assert {total for _, total in pages} == {5}
    await decide(approvals, whole[2].id, "reject")
    assert await waiting(approvals) == [one for one in whole if one is not whole[2]]


@pytest.mark.parametrize(
    ("decision", "other", "action"),
    [("approve", "reject", "approval_approved"), ("reject", "approve", "approval_rejected")],
)
async def test_a_decision_is_recorded_once(
    approvals: Approvals, database: Database, decision: Decision, other: Decision, action: str
) -> None:
    """By whom, when and why; whoever says the same again is told the same, also when it would have expired."""
    proposed = await propose(database, FOUNDER, "cfo", OFFER, NOON)
    decided = await decide(approvals, proposed.id, decision)
    assert decided == replace(
        proposed, decision=decision, decided_by=FOUNDER, decided_at=NOON + HOUR, reason="As it is."
    )
    again = await approvals.decide(FOUNDER, proposed.id, decision, "Else.", by="somebody", now=NOON + 9 * HOUR)
    assert again == decided
    assert await reason_of(decide(approvals, proposed.id, other)) == (409, "approval_decided")
    assert await done(database) == [action, "approval_proposed"]


async def test_an_expired_one_cannot_be_decided(approvals: Approvals, database: Database) -> None:
    """From the very moment on, and it stays undecided."""
    late = await propose(database, FOUNDER, "cfo", OFFER, NOON)
    assert await reason_of(decide(approvals, late.id, "approve", after=2 * HOUR)) == (409, "approval_expired")
    assert await done(database) == ["approval_proposed"]
    assert (await decide(approvals, late.id, "approve", after=2 * HOUR - SECOND)).decision == "approve"


async def test_nobody_decides_for_another(approvals: Approvals, database: Database) -> None:
    """What is not the subscriber's is not there."""
    proposed = await propose(database, FOUNDER, "cfo", OFFER, NOON)
    assert await reason_of(decide(approvals, proposed.id, "approve", subscriber="ann")) == (404, "approval_unknown")
    assert await reason_of(decide(approvals, uuid4(), "approve")) == (404, "approval_unknown")
    assert await waiting(approvals) == [proposed]


async def test_of_two_who_decide_at_once_one_does(others: list[Approvals], database: Database) -> None:
    """The other learns how it was decided; each decision is recorded once."""
    verdicts: list[Decision] = ["approve", "reject"]
    for turn in range(10):
        proposed = await propose(database, FOUNDER, "cfo", OFFER, NOON)
        racing = [decide(one, proposed.id, verdict) for one, verdict in zip(others, verdicts, strict=True)]
        ended = await asyncio.gather(*racing[:: 1 - 2 * (turn % 2)], return_exceptions=True)
        won = [one for one in ended if isinstance(one, Approval)]
        lost = [one.problem.reason for one in ended if isinstance(one, EdgeError)]
        assert (len(won), lost) == (1, ["approval_decided"])
    actions = await done(database)
    assert (len(actions), actions.count("approval_proposed")) == (20, 10)


async def test_whoever_waits_for_a_decision_in_the_making_sees_it(others: list[Approvals], database: Database) -> None:
    """A transaction that is open decides first; the same decision beside it is told and not made again."""
    proposed = await propose(database, FOUNDER, "cfo", OFFER, NOON)
    async with database.transaction() as connection:
        lock = "SELECT 1 FROM executive_approvals WHERE approval_id = $1 FOR UPDATE"
        await connection.execute(lock, proposed.id)
        both = [asyncio.create_task(decide(one, proposed.id, "approve")) for one in others]
        while await database.fetchval(WAITING) < 2:  # noqa: ASYNC110 - PostgreSQL's
            await asyncio.sleep(0.01)
    assert len({await one for one in both}) == 1
    assert await done(database) == ["approval_approved", "approval_proposed"]
