"""What was spent, and whether more may be: sums that no reading makes wrong."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sovren_edge.gateway.money.accounts import Account, Span, span_of
from sovren_edge.gateway.settings import BudgetSettings
from tests.gateway.books import NOON, make_cost

DAY, MONTH = timedelta(days=1), timedelta(days=30)
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.timezones())  # noqa: DTZ001 - zones are drawn


def make_account(hard: int | None = 100, soft: int | None = None) -> Account:
    """Return the account of a month's budget, that is known and unspent."""
    account = Account(BudgetSettings(hard_microusd=hard, soft_microusd=soft), NOON)
    account.read(account.span, 0, ())
    return account


@given(MOMENTS, st.sampled_from(["day", "month"]))
def test_a_period_is_a_whole_day_or_month(now: datetime, period: Literal["day", "month"]) -> None:
    """In UTC, whatever zone the moment is told in; the next one begins where it ends."""
    span = span_of(period, now)
    assert span.start <= now < span.end
    assert span.start.utcoffset() == timedelta(0)
    assert (span.start.hour, span.start.minute, span.end.hour, span.end.minute) == (0, 0, 0, 0)
    assert span_of(period, span.end).start == span.end
    if period == "month":
        assert (span.start.day, span.end.day) == (1, 1)
        assert (span.end.month - span.start.month) % 12 == 1
    else:
        assert span.end - span.start == timedelta(days=1)


def test_a_hard_budget_is_not_exceeded_by_those_in_flight() -> None:
    """What they are expected to cost is set aside."""
    account = make_account(hard=100)
    for _ in range(3):
        assert account.refused_for_s(30, NOON) is None
        account.hold(30)
    assert account.refused_for_s(10, NOON) is None
    assert account.refused_for_s(11, NOON) == 1, "one of the three may cost nothing"
    account.release(30)
    assert account.refused_for_s(11, NOON) is None
    assert not account.idle


def test_whoever_has_spent_all_waits_for_the_next_period() -> None:
    """To the second, rounded up; and nothing is free meanwhile."""
    account = make_account(hard=100)
    account.spend(make_cost(100))
    end = account.span.end
    assert end == datetime(2026, 12, 1, tzinfo=UTC)
    for before, wait_s in ((timedelta(seconds=90), 90), (timedelta(seconds=1.5), 2), (timedelta(microseconds=1), 1)):
        assert account.refused_for_s(0, end - before) == wait_s
    account.turn(end)
    assert account.refused_for_s(0, end) is None


def test_a_soft_budget_refuses_nobody() -> None:
    """It is told of."""
    account = make_account(hard=None, soft=100)
    account.spend(make_cost(1000))
    assert account.refused_for_s(1000, NOON) is None
    assert account.reached() == [50, 80, 100]


def test_a_threshold_is_told_once() -> None:
    """In parts of the soft budget, where there is one."""
    account = make_account(soft=1000, hard=4000)
    told = []
    for _ in range(12):
        account.spend(make_cost(100))
        told.append(account.reached())
    assert told == [[]] * 4 + [[50], [], [], [80], [], [100], [], []]
    account.turn(account.span.end)
    assert account.reached() == []
    account.spend(make_cost(900, created_at=account.span.start))
    assert account.reached() == [50, 80]


def test_a_new_period_begins_with_what_belongs_to_it() -> None:
    """Costs of requests that began before it, or a reading of the old one, are not its own."""
    account = make_account()
    late, early = make_cost(7), make_cost(5, created_at=datetime(2026, 12, 1, tzinfo=UTC))
    old = account.span
    account.spend(late)
    account.spend(early)
    account.turn(old.end - timedelta(microseconds=1))
    assert account.spent_microusd == 12
    account.turn(old.end)
    account.turn(NOON)
    assert account.spent_microusd == 5
    account.spend(late)
    account.read(old, 1000, {early.request_id})
    assert account.spent_microusd == 5
    account.read(account.span, 1005, {early.request_id})
    assert (account.spent_microusd, account.idle) == (1005, True)


@given(st.data())
def test_no_cost_is_counted_twice_or_not_at_all(data: st.DataObject) -> None:
    """Whenever the database is read, and whatever it has by then: its own and those of others."""
    account = make_account(hard=10**9)
    costs = [make_cost(3**n, request_id=UUID(int=n + 1)) for n in range(8)]
    written: set[UUID] = set()
    spent: list[UUID] = []
    for step in data.draw(st.lists(st.sampled_from(["spend", "write", "read"]), max_size=30)):
        if step == "spend" and len(spent) < len(costs):
            account.spend(costs[len(spent)])
            spent.append(costs[len(spent)].request_id)
        elif step == "write" and spent:
            written.add(data.draw(st.sampled_from(spent)))
        else:
            asked = account.unread()
            recorded = sum(cost.amount_microusd for cost in costs if cost.request_id in written)
            found = written.intersection(asked)
            # Between the question and the answer, another cost may come.
            if len(spent) < len(costs) and data.draw(st.booleans()):
                account.spend(costs[len(spent)])
                spent.append(costs[len(spent)].request_id)
            account.read(account.span, recorded, found)
        assert account.spent_microusd == sum(3**n for n in range(len(spent)))


def test_what_costs_nothing_is_not_kept() -> None:
    """And the same cost counts once."""
    account = make_account()
    account.spend(make_cost(0))
    assert account.idle
    cost = make_cost(5)
    account.spend(cost)
    account.spend(replace(cost))
    assert account.spent_microusd == 5


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({}, "soft_microusd, hard_microusd, or both"),
        ({"soft_microusd": 0}, "greater than or equal to 1"),
        ({"hard_microusd": 1.5}, "valid integer"),
        ({"soft_microusd": 2, "hard_microusd": 1}, "at most hard_microusd"),
        ({"hard_microusd": 2, "period": "week"}, "'day' or 'month'"),
    ],
)
def test_what_is_no_budget_is_a_fault(settings: dict[str, object], fault: str) -> None:
    """With words for it."""
    with pytest.raises(ValidationError, match=fault):
        BudgetSettings.model_validate(settings)


def test_a_budget_is_told_in_parts_of_its_soft_amount() -> None:
    """Or of its hard one."""
    assert BudgetSettings(soft_microusd=5, hard_microusd=5).basis_microusd == 5
    assert BudgetSettings(hard_microusd=7).basis_microusd == 7
    assert span_of(BudgetSettings(hard_microusd=7).period, NOON) == Span(
        datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    )


def test_another_budget_takes_over_what_was_spent() -> None:
    """In the same period; what was spent in one of another length has to be read first."""
    account = make_account(hard=100)
    account.read(account.span, 60, ())
    account.spend(make_cost(10, created_at=NOON - DAY))
    account.spend(make_cost(5))
    account.go_by(BudgetSettings(hard_microusd=80), NOON)
    assert (account.spent_microusd, account.known) == (75, True)
    assert account.refused_for_s(6, NOON) is not None
    account.go_by(BudgetSettings(period="day", hard_microusd=80), NOON)
    assert (account.spent_microusd, account.known) == (5, False)
    assert account.span == span_of("day", NOON)


def test_another_process_learns_what_was_spent() -> None:
    """As JSON, with the costs that the database may lack; of another period, nothing is learnt."""
    told, cost = make_account(), make_cost(7)
    told.read(told.span, 60, ())
    told.spend(cost)
    written = orjson.loads(orjson.dumps(told.tell()))
    account = Account(BudgetSettings(hard_microusd=100), NOON)
    account.learn(written)
    assert (account.spent_microusd, account.known, account.unread()) == (67, True, [cost.request_id])
    account.read(account.span, 67, [cost.request_id])
    assert account.spent_microusd == 67
    later = Account(BudgetSettings(hard_microusd=100), NOON + 2 * MONTH)
    later.learn(written)
    assert (later.spent_microusd, later.known) == (0, False)
