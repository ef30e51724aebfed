"""How usage is told and written."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovren_edge.gateway.limit.limiter import Quota
from sovren_edge.gateway.money.accounts import Account
from sovren_edge.gateway.settings import BudgetSettings
from sovren_edge.gateway.usage import told as usage_told
from sovren_edge.gateway.usage.lines import COLUMNS, csv_line, csv_lines, json_lines
from sovren_edge.gateway.usage.terms import Group, Key, Terms
from sovren_edge.gateway.usage.told import (
    COUNTED,
    Of,
    Point,
    tell_budget,
    tell_cost,
    tell_groups,
    tell_period,
    tell_point,
    tell_quota,
    tell_time,
    usd,
)
from tests.gateway.books import NOON, make_cost

UTC_ZONE, BERLIN = ZoneInfo("UTC"), ZoneInfo("Europe/Berlin")
SUMS = {name: number for number, name in enumerate(COUNTED, 1)}


def make_terms(*groups: Group, zone: ZoneInfo = BERLIN) -> Terms:
    """Return a question about a morning."""
    return Terms(datetime(2026, 11, 24, tzinfo=UTC), NOON, zone, "hour", frozenset(groups))


async def several(*points: Point) -> AsyncIterator[Point]:
    """Yield rows."""
    for point in points:
        yield point


@given(st.integers(-(10**15), 10**15))
def test_dollars_are_the_same_amount(microusd: int) -> None:
    """To the last digit."""
    assert Decimal(usd(microusd)) * 1_000_000 == microusd
    assert usd(250) == "0.000250"
    assert usd(-1) == "-0.000001"


def test_times_are_the_zones() -> None:
    """With a Z where that is UTC's."""
    assert tell_time(NOON, BERLIN) == "2026-11-24T13:00:00+01:00"
    assert tell_time(NOON, UTC_ZONE) == "2026-11-24T12:00:00Z"
    assert tell_period(make_terms()) == {
        "from": "2026-11-24T01:00:00+01:00",
        "to": "2026-11-24T13:00:00+01:00",
        "tz": "Europe/Berlin",
        "granularity": "hour",
    }


def test_a_quota_is_told_in_seconds() -> None:
    """Rounded up, and never less than none."""
    told = tell_quota(Quota(100, 58, 1_000_001, 500), 1000)
    assert told == {"limit": 100, "used": 58, "remaining": 42, "next_slot_in_s": 1, "full_reset_in_s": 0}


def test_a_budget_is_told() -> None:
    """With what is left of a hard one."""
    account = Account(BudgetSettings(hard_microusd=1_000_000, soft_microusd=5, period="day"), NOON)
    account.spend(make_cost(400_000))
    assert tell_budget(account, UTC_ZONE) == {
        "period": "day",
        "from": "2026-11-24T00:00:00Z",
        "to": "2026-11-25T00:00:00Z",
        "soft_microusd": 5,
        "hard_microusd": 1_000_000,
        "spent_microusd": 400_000,
        "spent_usd": "0.400000",
        "remaining_microusd": 600_000,
        "remaining_usd": "0.600000",
    }
    soft = tell_budget(Account(BudgetSettings(soft_microusd=5), NOON), UTC_ZONE)
    assert (soft["remaining_microusd"], soft["remaining_usd"], soft["period"]) == (None, None, "month")


def test_a_cost_is_told_by_service() -> None:
    """And says how much of it has no price."""
    assert tell_cost([]) == {"amount_microusd": 0, "amount_usd": "0.000000", "unpriced_requests": 0, "by_service": {}}
    rows = [
        {"service": "slack", "amount_microusd": 5, "unpriced": 0},
        {"service": "zoom", "amount_microusd": 0, "unpriced": 3},
    ]
    told = tell_cost(rows)
    assert (told["amount_microusd"], told["unpriced_requests"]) == (5, 3)
    assert told["by_service"]["slack"] == {"amount_microusd": 5, "amount_usd": "0.000005"}


def test_sums_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what they are of; a caller's own services have an end."""
    monkeypatch.setattr(usage_told, "SERVICES", 2)
    of = {"service": None, "status": None, "reason": None} | SUMS
    told = tell_groups([
        of | {"of": Of.TOTAL},
        *(of | {"of": Of.SERVICE, "service": name} for name in ("slack", "zoom", "other")),
        of | {"of": Of.STATUS, "status": 200, "requests": 7},
        of | {"of": Of.STATUS, "requests": 8},
        of | {"of": Of.REASON, "reason": "host_not_allowed", "requests": 9},
        of | {"of": Of.REASON, "reason": "", "requests": 10},
    ])  # fmt: skip
    assert told["totals"] == SUMS | {"cost_usd": usd(SUMS["cost_microusd"])}
    assert list(told["by_service"]) == ["slack", "zoom"]
    assert told["by_status"] == {"200": 7, "none": 8}
    assert told["by_reason"] == {"host_not_allowed": 9}


def test_a_row_names_what_it_is_of() -> None:
    """No more than was asked for; without an answer, there is no status."""
    point = Point(Key(NOON, "slack", 200), SUMS)
    assert {"service", "status"}.isdisjoint(tell_point(point, make_terms()))
    told = tell_point(point, make_terms("service", "status"))
    assert (told["start"], told["service"], told["status"]) == ("2026-11-24T13:00:00+01:00", "slack", 200)
    assert tell_point(Point(Key(NOON), SUMS), make_terms("status"))["status"] is None


async def test_json_is_whole_however_many_rows_there_are() -> None:
    """Also none."""
    point = Point(Key(NOON), SUMS)
    for points, following in (([], None), ([point], "next"), ([point, point], None)):
        written = b"".join([line async for line in json_lines({"a": 1}, several(*points), make_terms(), following)])
        read = orjson.loads(written)
        assert (read["a"], len(read["series"]), read["next_cursor"]) == (1, len(points), following)


async def test_csv_has_the_same_columns_always() -> None:
    """Empty ones, where the series is not told by them."""
    point = Point(Key(NOON, "slack", 200), SUMS)
    for groups, expected in (((), ("", "")), (("service", "status"), ("slack", "200"))):
        written = b"".join([line async for line in csv_lines(several(point), make_terms(*groups))])
        names, cells = csv.reader(io.StringIO(written.decode(), newline=""))
        assert tuple(names) == COLUMNS
        assert tuple(cells[1:3]) == expected
        assert cells[names.index("grants")] == str(SUMS["grants"])


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1))
def test_no_cell_is_a_formula(texts: list[str]) -> None:
    """Whatever it begins with; all else is read as it was written."""
    (cells,) = csv.reader(io.StringIO(csv_line(["x", *texts]).decode(), newline=""))
    for text, cell in zip(texts, cells[1:], strict=True):
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
        assert cell in {text, f"'{text}"}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\r=1"])
def test_formulas_are_made_plain_text(text: str) -> None:
    """By an apostrophe, as spreadsheets mark a text."""
    assert csv_line([text]).strip(b'"\r\n').startswith(b"'" + text[:1].encode())
