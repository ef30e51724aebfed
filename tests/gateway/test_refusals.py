"""What those are told who have no grant, and how floods of them are counted."""

from sovren_edge.gateway.limit.limiter import Crowded, Exceeded, Granted, NotSeeded, Quota
from sovren_edge.gateway.proxy.floods import Flood, Floods
from sovren_edge.gateway.proxy.refusals import (
    body_too_large,
    busy,
    credential_missing,
    not_granted,
    refused_too_often,
)
from sovren_edge.gateway.subscribers import mismatched

SECOND_US = 1_000_000
FULL = Quota(100, 100, 90 * SECOND_US, 3600 * SECOND_US)


def test_whoever_has_no_grant_learns_when_to_come_again() -> None:
    """Never before a place is free."""
    problem = not_granted(Exceeded(FULL), 10 * SECOND_US).problem
    assert (problem.status, problem.reason, problem.retry_after_s) == (429, "hourly_limit", 80)
    problem = not_granted(Crowded(FULL), 0).problem
    assert (problem.status, problem.reason, problem.retry_after_s) == (429, "too_many_in_flight", 1)
    problem = not_granted(NotSeeded(), 0).problem
    assert (problem.status, problem.reason, problem.retry_after_s) == (503, "limiter_not_seeded", 5)


def test_whoever_is_refused_too_often_is_not_told_why_any_more() -> None:
    """Refusals have a limit of their own."""
    assert refused_too_often(Granted(0, FULL), 0) is None
    failure = refused_too_often(Exceeded(FULL), 60 * SECOND_US)
    assert failure is not None
    assert (failure.problem.status, failure.problem.reason, failure.problem.retry_after_s) == (429, "refusal_limit", 30)


def test_other_refusals_name_their_reason() -> None:
    """With the status that the contract has for it."""
    told = [
        (one.problem.status, one.problem.reason) for one in (mismatched(), credential_missing("slack", "slack.com"))
    ]
    assert told == [(403, "subscriber_mismatch"), (424, "credential_missing")]
    told = [(one.problem.status, one.problem.reason) for one in (body_too_large(9), busy())]
    assert told == [(413, "body_too_large"), (503, "gateway_busy")]


def test_floods_are_counted_by_the_minute() -> None:
    """A minute that is not over stays, unless all is asked for."""
    floods = Floods()
    early, late = (Flood("ann", "slack", "hourly_limit", 429, minute) for minute in (5, 6))
    for flood in (early, early, late):
        floods.count(flood)
    assert floods.take(6) == {early: 2}
    floods.count(late)
    assert floods.take() == {late: 2}
    assert not floods.take()
