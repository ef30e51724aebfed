"""How the hourly limit is told: by example, and that nobody who waits as told comes too early."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovren_edge.gateway.limit.limiter import Exceeded, Granted, Limiter, Quota
from sovren_edge.gateway.limit.limits_told import forwarded_limit_fields, own_limit_fields, retry_after_s

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
NOW_US = 5 * HOUR_US


def quota(used: int, next_slot_in_us: int, limit: int = 100) -> Quota:
    """Make one as it is now."""
    return Quota(limit, used, NOW_US + next_slot_in_us, NOW_US + HOUR_US)


def test_own_answers_tell_all() -> None:
    """By the draft, and as older clients read it."""
    assert own_limit_fields(quota(58, 17 * SECOND_US), NOW_US) == [
        ("RateLimit-Policy", '"subscriber-hour";q=100;w=3600'),
        ("RateLimit", '"subscriber-hour";r=42;t=17'),
        ("X-RateLimit-Limit", "100"),
        ("X-RateLimit-Remaining", "42"),
        ("X-RateLimit-Reset", "17"),
    ]


def test_forwarded_answers_leave_the_upstream_its_names() -> None:
    """Ours have others."""
    assert forwarded_limit_fields(quota(58, 17 * SECOND_US), NOW_US) == [
        ("X-Gateway-RateLimit-Limit", "100"),
        ("X-Gateway-RateLimit-Remaining", "42"),
        ("X-Gateway-RateLimit-Reset", "17"),
    ]


@pytest.mark.parametrize(
    ("next_slot_in_us", "reset_s", "wait_s"),
    [
        (0, 0, 1),
        (1, 1, 1),
        (SECOND_US - 1, 1, 1),
        (SECOND_US, 1, 1),
        (SECOND_US + 1, 2, 2),
        (HOUR_US, 3600, 3600),
        (-1, 0, 1),
        (-HOUR_US, 0, 1),
    ],
)
def test_seconds_are_rounded_up(next_slot_in_us: int, reset_s: int, wait_s: int) -> None:
    """A place that is free already is no time away, but who was refused does not come back at once."""
    told = quota(100, next_slot_in_us)
    assert dict(own_limit_fields(told, NOW_US))["X-RateLimit-Reset"] == str(reset_s)
    assert dict(forwarded_limit_fields(told, NOW_US))["X-Gateway-RateLimit-Reset"] == str(reset_s)
    assert retry_after_s(told, NOW_US) == wait_s


def test_a_lowered_limit_leaves_nothing() -> None:
    """Rather than less than nothing."""
    assert dict(own_limit_fields(quota(100, 1, limit=10), NOW_US))["RateLimit"] == '"subscriber-hour";r=0;t=1'


@settings(max_examples=300)
@given(grants=st.lists(st.integers(0, 30 * SECOND_US), min_size=3, max_size=12), limit=st.integers(1, 3))
def test_who_waits_as_told_is_granted(grants: list[int], limit: int) -> None:
    """And what is told is of the form that the draft has, with the same numbers in all fields."""
    limiter, now_us = Limiter(lambda: limit, HOUR_US), NOW_US
    limiter.finish_seeding()
    for number, later_us in enumerate(grants):
        now_us += later_us
        decision = limiter.grant("ann", str(number), now_us)
        limiter.settle("ann", str(number))
        assert isinstance(decision, Granted | Exceeded)
        fields = dict(own_limit_fields(decision.quota, now_us))
        told = re.fullmatch(r'"subscriber-hour";r=([0-9]+);t=([0-9]+)', fields["RateLimit"])
        assert told is not None
        assert told.groups() == (fields["X-RateLimit-Remaining"], fields["X-RateLimit-Reset"])
        wait_s = retry_after_s(decision.quota, now_us)
        assert wait_s >= int(told[2])
        if isinstance(decision, Exceeded):
            now_us += wait_s * SECOND_US
            assert isinstance(limiter.grant("ann", "again", now_us), Granted)
            limiter.settle("ann", "again")
