"""Owns how usage is told: sums, amounts and times, ready to be written.

Amounts are whole millionths of a US dollar, and the same as a decimal text. Must not know requests, clocks or
databases.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any
from zoneinfo import ZoneInfo

from sovren_edge.gateway.limit.limiter import Quota
from sovren_edge.gateway.money.accounts import Account
from sovren_edge.gateway.usage.terms import Key, Terms

Told = dict[str, Any]

COUNTED = (
    "requests", "forwarded", "refused", "replayed", "unknown", "in_flight", "would_deny", "grants",
    "bytes_in", "bytes_out", "cost_microusd",
)  # fmt: skip
# The most services that are told of, those with the most requests first: a caller makes up names as it likes.
SERVICES = 1000

_SECOND_US = 1_000_000


class Of(IntEnum):
    """What a row of sums is of: PostgreSQL's `grouping(service, status, reason)`, a bit for each that it is not of."""

    TOTAL = 0b111
    SERVICE = 0b011
    STATUS = 0b101
    REASON = 0b110


@dataclass(frozen=True, slots=True)
class Point:
    """A row of the series."""

    key: Key
    sums: Mapping[str, int]


def usd(microusd: int) -> str:
    """Write an amount in dollars: 250 is 0.000250."""
    sign = "-" if microusd < 0 else ""
    dollars, parts = divmod(abs(microusd), 1_000_000)
    return f"{sign}{dollars}.{parts:06d}"


def tell_sums(sums: Mapping[str, int]) -> Told:
    """Tell sums, with their cost in dollars."""
    return {name: sums[name] for name in COUNTED} | {"cost_usd": usd(sums["cost_microusd"])}


def tell_time(moment: datetime, zone: ZoneInfo) -> str:
    """Tell a time as that zone does: 2026-11-24T12:00:00+01:00, or with a Z in UTC."""
    local = moment.astimezone(zone)
    return local.isoformat().removesuffix("+00:00") + "Z" * (local.utcoffset() == timedelta(0))


def tell_period(terms: Terms) -> Told:
    """Tell which period, in which zone and steps."""
    since, until = tell_time(terms.since, terms.zone), tell_time(terms.until, terms.zone)
    return {"from": since, "to": until, "tz": terms.zone.key, "granularity": terms.granularity}


def tell_quota(quota: Quota, now_us: int) -> Told:
    """Tell how a subscriber stands with its hourly limit; seconds are rounded up."""
    return {
        "limit": quota.limit,
        "used": quota.used,
        "remaining": quota.remaining,
        "next_slot_in_s": _in_s(quota.next_slot_at_us, now_us),
        "full_reset_in_s": _in_s(quota.full_reset_at_us, now_us),
    }


def tell_budget(account: Account, zone: ZoneInfo) -> Told:
    """Tell how a subscriber stands in the present period of its budget."""
    budget, spent = account.budget, account.spent_microusd
    hard = budget.hard_microusd
    remaining = None if hard is None else max(hard - spent, 0)
    return {
        "period": budget.period,
        "from": tell_time(account.span.start, zone),
        "to": tell_time(account.span.end, zone),
        "soft_microusd": budget.soft_microusd,
        "hard_microusd": hard,
        "spent_microusd": spent,
        "spent_usd": usd(spent),
        "remaining_microusd": remaining,
        "remaining_usd": None if remaining is None else usd(remaining),
    }


def tell_cost(rows: Iterable[Mapping[str, Any]]) -> Told:
    """Tell what a period has cost, by rows of a service each."""
    found = list(rows)
    amounts = {row["service"]: row["amount_microusd"] for row in found}
    total = sum(amounts.values())
    return {
        "amount_microusd": total,
        "amount_usd": usd(total),
        "unpriced_requests": sum(row["unpriced"] for row in found),
        "by_service": {name: {"amount_microusd": each, "amount_usd": usd(each)} for name, each in amounts.items()},
    }


def tell_groups(rows: Iterable[Mapping[str, Any]]) -> Told:
    """Tell the sums of a period, and of each of its services, statuses and reasons; `of` says which a row is."""
    told: Told = {"totals": {}, "by_service": {}, "by_status": {}, "by_reason": {}}
    for row in rows:
        match row["of"]:
            case Of.TOTAL:
                told["totals"] = tell_sums(row)
            case Of.SERVICE if len(told["by_service"]) < SERVICES:
                told["by_service"][row["service"]] = tell_sums(row)
            case Of.STATUS:
                told["by_status"][str(row["status"] or "none")] = row["requests"]
            case Of.REASON if row["reason"]:
                told["by_reason"][row["reason"]] = row["requests"]
    return told


def tell_point(point: Point, terms: Terms) -> Told:
    """Tell a row of the series; a status is null where no answer was given: it is in flight, or its end unknown."""
    told: Told = {"start": tell_time(point.key.start, terms.zone)}
    if "service" in terms.groups:
        told["service"] = point.key.service
    if "status" in terms.groups:
        told["status"] = point.key.status or None
    return told | tell_sums(point.sums)


def _in_s(moment_us: int, now_us: int) -> int:
    return max(-((now_us - moment_us) // _SECOND_US), 0)
