"""Budgets on a real PostgreSQL: several processes, restarts and outages; each threshold is told once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from harness import eventually
from structlog.testing import capture_logs

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.money import budgets as budgets_module
from sovren_edge.gateway.money.budgets import Budgets, Hold, open_budgets
from sovren_edge.gateway.settings import BudgetSettings
from sovren_edge.local.postgres import run_postgres
from sovren_edge.store.database import Database, open_database
from sovren_edge.store.history import History
from sovren_edge.store.migrations import migrate
from sovren_edge.store.settings import DatabaseSettings
from tests.gateway.books import NOON, make_cost, write

SETTINGS = DatabaseSettings()
GATEWAY = [History("gateway", "sovren_edge.gateway.migrations")]
HARD = {"ann": BudgetSettings(hard_microusd=1000)}
SOFT = {"default": BudgetSettings(soft_microusd=1000, period="day")}
MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.fixture
def clock() -> SimpleNamespace:
    """Return a clock that stands still."""
    return SimpleNamespace(now=NOON)


Open = Callable[..., Any]


@pytest.fixture
def opened(clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Return a way to open budgets that are read again very soon."""
    monkeypatch.setattr(budgets_module, "REREAD_S", 0.02)

    @asynccontextmanager
    async def open_(settings: dict[str, BudgetSettings], database: Database) -> AsyncIterator[Budgets]:
        async with open_budgets(lambda: settings, database, lambda: clock.now, structlog.get_logger()) as budgets:
            yield budgets

    return open_


async def spent(budgets: Budgets, subscriber: str = "ann") -> int | None:
    """Return what a subscriber has spent."""
    account = await budgets.look(subscriber)
    return None if account is None else account.spent_microusd


async def refused(budgets: Budgets, expected_microusd: int = 0) -> tuple[str, int | None]:
    """Return why ann is refused, and until when."""
    with pytest.raises(EdgeError) as error:
        await budgets.hold("ann", expected_microusd)
    return error.value.problem.reason, error.value.problem.retry_after_s


async def alerts(database: Database) -> list[tuple[str, int]]:
    """Return what was told."""
    found = await database.fetch("SELECT * FROM budget_alerts ORDER BY subscriber_id, threshold_percent")
    return [(row["subscriber_id"], row["threshold_percent"]) for row in found]


async def test_what_was_spent_before_counts(database: Database, opened: Open) -> None:
    """That of others, of other times and of other subscribers does not."""
    other = make_cost(500, created_at=NOON - timedelta(days=30)), make_cost(500, subscriber_id="bob")
    await write(database, make_cost(700), make_cost(300, created_at=NOON - timedelta(days=3)), *other)
    async with opened(HARD, database) as budgets:
        reason, retry_after_s = await refused(budgets)
        assert reason == "budget_exhausted"
        assert retry_after_s == 6.5 * 24 * 3600
        assert await budgets.hold("bob", 10**9) is None
        assert await budgets.look("bob") is None
        budgets.settle(None, None)


async def test_a_hard_budget_is_not_exceeded_by_those_who_come_together(database: Database, opened: Open) -> None:
    """Of a hundred at once, ten may be sent; what costs less than expected gives the rest back."""
    async with opened(HARD, database) as budgets:
        came = await asyncio.gather(*(budgets.hold("ann", 100) for _ in range(100)), return_exceptions=True)
        holds = [each for each in came if isinstance(each, Hold)]
        assert len(holds) == 10
        for hold in holds[:5]:
            budgets.settle(hold, make_cost(100))
        assert await refused(budgets, 1) == ("budget_exhausted", 1)
        for hold in holds[5:]:
            budgets.settle(hold, None)
        assert await spent(budgets) == 500
        budgets.settle(await budgets.hold("ann", 500), make_cost(600))
        assert (await refused(budgets))[1] == 6.5 * 24 * 3600


async def test_own_costs_are_counted_once_as_they_are_written(database: Database, opened: Open) -> None:
    """Before, while and after PostgreSQL has them; and those of others once it has them."""
    async with opened(HARD, database) as budgets:
        hold = await budgets.hold("ann", 100)
        cost = make_cost(100)
        budgets.settle(hold, cost)
        assert await spent(budgets) == 100
        await write(database, cost)
        for _ in range(20):
            assert await spent(budgets) == 100
            await asyncio.sleep(0.005)
        await write(database, make_cost(50))
        async with asyncio.timeout(30):
            while await spent(budgets) == 100:  # noqa: ASYNC110 - another process has written it
                await asyncio.sleep(0.005)
        assert await spent(budgets) == 150


async def test_each_threshold_is_told_once_among_all(database: Database, opened: Open) -> None:
    """As an event, a count and a row: by two processes at once, and after a restart."""
    with capture_logs() as logs:
        async with opened(SOFT, database) as one, opened(SOFT, database) as two:
            for budgets in (one, two):
                budgets.settle(await budgets.hold("ann", 0), cost := make_cost(450))
                await write(database, cost)
            one.settle(await one.hold("bob", 0), make_cost(2000, subscriber_id="bob"))
            await eventually(lambda: sum(one.told.values()) + sum(two.told.values()) == 5)
        async with opened(SOFT, database) as three:
            await three.look("ann")
            three.settle(await three.hold("ann", 0), make_cost(100))
            await eventually(lambda: three.told[100])
            assert three.told == {50: 0, 80: 0, 100: 1}
    assert await alerts(database) == [(name, part) for name in ("ann", "bob") for part in (50, 80, 100)]
    told = [log for log in logs if log["event"] == "budget_reached"]
    assert len(told) == 6
    last = next(log for log in told if (log["subscriber"], log["percent"]) == ("ann", 100))
    assert (last["period"], last["period_start"]) == ("day", "2026-11-24T00:00:00+00:00")
    assert (last["budget_microusd"], last["spent_microusd"]) == (1000, 1000)


async def test_a_new_period_is_told_anew(database: Database, opened: Open, clock: SimpleNamespace) -> None:
    """And begins with nothing spent."""
    async with opened(SOFT, database) as budgets:
        budgets.settle(await budgets.hold("ann", 0), make_cost(500))
        await eventually(lambda: budgets.told[50] == 1)
        clock.now = MIDNIGHT
        assert await spent(budgets) == 0
        budgets.settle(await budgets.hold("ann", 0), make_cost(500, created_at=MIDNIGHT))
        await eventually(lambda: budgets.told[50] == 2)


async def test_an_outage_of_postgres_loses_no_spending(opened: Open, tmp_path: Path, clock: SimpleNamespace) -> None:
    """Whoever is known goes on, into a new period too; who is met first is refused for now; alerts are told later."""
    async with run_postgres(tmp_path, 5432) as postgres:
        await migrate(postgres.url, SETTINGS.schema_name, GATEWAY)
    settings = HARD | {"bob": BudgetSettings(hard_microusd=1000), "eve": BudgetSettings(soft_microusd=1000)}
    cost = make_cost(600)
    async with open_database(postgres.url, SETTINGS) as database:
        async with run_postgres(tmp_path, 5432), opened(settings, database) as budgets:
            assert await spent(budgets) == 0
        async with opened(settings, database) as budgets:
            assert (await _unavailable(budgets, "bob")) == "database_unavailable"
            assert await budgets.hold("eve", 5) is not None
        async with run_postgres(tmp_path, 5432) as postgres:
            opening = opened(settings, database)
            budgets = await opening.__aenter__()
            assert await spent(budgets) == 0
        budgets.settle(await budgets.hold("ann", 600), cost)
        assert (await refused(budgets, 600))[0] == "budget_exhausted"
        assert sum(budgets.told.values()) == 0
        async with run_postgres(tmp_path, 5432):
            await eventually(lambda: budgets.told[50] == 1)
            await write(database, cost)
            assert await spent(budgets) == 600
        clock.now = datetime(2026, 12, 1, tzinfo=UTC)
        assert await budgets.hold("ann", 1000) is not None
        await opening.__aexit__(None, None, None)


async def _unavailable(budgets: Budgets, subscriber: str) -> str:
    with pytest.raises(EdgeError) as error:
        await budgets.hold(subscriber, 0)
    return error.value.problem.reason


async def test_whoever_is_quiet_is_forgotten(database: Database, opened: Open, clock: SimpleNamespace) -> None:
    """But for those of whom PostgreSQL does not know everything, or who have requests in flight."""
    async with opened({"default": BudgetSettings(hard_microusd=1000)}, database) as budgets:
        for name in ("ann", "bob", "eve"):
            hold = await budgets.hold(name, 1)
            if name != "eve":
                budgets.settle(hold, make_cost(5, subscriber_id=name) if name == "bob" else None)
        clock.now += timedelta(hours=2)
        held = budgets._accounts  # noqa: SLF001 - what is forgotten cannot be seen from outside
        await eventually(lambda: set(held) == {"bob", "eve"})
        assert await spent(budgets, "bob") == 5


async def test_a_check_asks_nobody_when_it_is_known(database: Database, opened: Open) -> None:
    """Nor for whoever has no budget: with every connection taken, it is answered."""
    async with opened(HARD, database) as budgets:
        await budgets.look("ann")
        connections = [database.acquire() for _ in range(SETTINGS.connections)]
        for connection in connections:
            await connection.__aenter__()
        # Sooner than a wait for a connection would be over.
        async with asyncio.timeout(0.8 * SETTINGS.timeout_s):
            assert await budgets.hold("ann", 5) is not None
            assert await budgets.hold("bob", 5) is None
        for connection in connections:
            await connection.__aexit__(None, None, None)
