"""What has changed between two looks: counters of a second, and how soon speech began."""

import pytest
from program_told import Told, endpoint, gateway, pool, port, program, times, worker

from sovren_edge.cli.described import Snapshot
from sovren_edge.cli.top.history import LOOKS, History, Look


def look(*told: Told, apart_s: float = 1.0) -> Look:
    """Look at several states, one after another; return what is shown of the last."""
    history = History()
    for number, one in enumerate(told):
        shown = history.take(Snapshot.model_validate(one), 100.0 + number * apart_s)
    return shown


def test_the_first_look_knows_no_rates() -> None:
    """Nor any trail."""
    first = look(program())
    assert (first.per_s, first.trails) == ({}, {})


def test_rates_are_what_was_counted_in_a_second() -> None:
    """Also where looks are further apart, since nobody answered in between."""
    then = program(
        workers=[worker(cpu_s=1.0), worker("gateway", cpu_s=None)],
        ports=[port(requests=100, errors=4)],
        pools=[pool(endpoint(sent=50, failed=1))],
        gateway=gateway(requests={"allowed": 10, "refused": 1}),
    )
    now = program(
        workers=[worker(cpu_s=2.0), worker("gateway", cpu_s=3.0)],
        ports=[port(requests=120, errors=4)],
        pools=[pool(endpoint(sent=60, failed=3))],
        gateway=gateway(requests={"allowed": 11, "refused": 2}),
    )
    assert look(then, now, apart_s=2.0).per_s == {
        ("worker", "balance", "cpu"): 0.5,
        ("port", "balance", "tts-master", "requests"): 10.0,
        ("port", "balance", "tts-master", "errors"): 0.0,
        ("endpoint", "tts", "tts-01", "sent"): 5.0,
        ("endpoint", "tts", "tts-01", "failed"): 1.0,
        ("gateway", "allowed"): 0.5,
        ("gateway", "refused"): 0.5,
    }


def test_a_worker_that_began_anew_counts_from_zero() -> None:
    """No rate is negative, and no mean is of sums that have nothing in common."""
    then = program(ports=[port(requests=1204)], pools=[pool(endpoint(), ttfa=times(10, 2.0))])
    now = program(ports=[port(requests=3)], pools=[pool(endpoint(), ttfa=times(2, 0.5))])
    shown = look(then, now)
    assert shown.per_s["port", "balance", "tts-master", "requests"] == 3.0
    assert shown.trails["pool", "tts"] == (0.25,)


def test_what_joins_has_no_rate_at_first() -> None:
    """It may have been there long before, unseen."""
    then, now = program(ports=[], pools=[]), program(ports=[port(requests=1204)])
    shown = look(then, now)
    assert ("port", "balance", "tts-master", "requests") not in shown.per_s
    assert shown.trails["endpoint", "tts", "tts-01"] == (None,)
    assert look(then, now, now).per_s["port", "balance", "tts-master", "requests"] == 0.0


def test_a_look_that_comes_too_soon_shows_the_rates_before() -> None:
    """It follows a command; one request in so short a time would look like many."""
    then, now, soon = (program(ports=[port(requests=requests)]) for requests in (0, 10, 11))
    history = History()
    history.take(Snapshot.model_validate(then), 100.0)
    history.take(Snapshot.model_validate(now), 101.0)
    shown = history.take(Snapshot.model_validate(soon), 101.1)
    assert shown.seen.ports[0].requests == 11
    assert shown.per_s["port", "balance", "tts-master", "requests"] == 10.0
    shown = history.take(Snapshot.model_validate(soon), 102.0)
    assert shown.per_s["port", "balance", "tts-master", "requests"] == 1.0


def test_trails_are_means_of_each_interval() -> None:
    """With a gap where nothing came."""
    counts = [(0, 0.0), (2, 0.4), (2, 0.4), (3, 1.2)]
    shown = look(*(program(pools=[pool(endpoint(ttfa=times(*one)))]) for one in counts))
    assert shown.trails["endpoint", "tts", "tts-01"] == pytest.approx((0.2, None, 0.8))


def test_a_pool_that_does_not_speak_has_the_times_of_its_endpoints() -> None:
    """All of them together."""
    then = pool(endpoint("a"), endpoint("b"), speech=None)
    now = pool(endpoint("a", ttfa=times(1, 0.2)), endpoint("b", ttfa=times(3, 0.2)), speech=None)
    assert look(program(pools=[then]), program(pools=[now])).trails["pool", "tts"] == (0.1,)


def test_what_is_gone_is_forgotten_when_its_trail_has_run_out() -> None:
    """A worker that does not answer for a moment costs no trail, endpoints that left cost no memory."""
    spoke = [program(pools=[pool(endpoint(ttfa=times(count, count * 0.2)))]) for count in (0, 1)]
    gone = program(pools=[])
    assert look(*spoke, gone).trails["endpoint", "tts", "tts-01"] == (pytest.approx(0.2), None)
    assert ("endpoint", "tts", "tts-01") in look(*spoke, *[gone] * (LOOKS - 1)).trails
    assert look(*spoke, *[gone] * LOOKS).trails == {}
