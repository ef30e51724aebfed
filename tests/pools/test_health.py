"""Health by fall and rise, and how soon the next probe follows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.health import REFUSED_INTERVAL_S, Health, ProbeResult
from pools.settings import ProbeSettings
from tests.pools.building import BAD, GOOD, REFUSED, TIMED_OUT, UNTRUSTED

SETTINGS = ProbeSettings(interval_s=2.0, fall=3, rise=2)


def observe(*results: ProbeResult) -> Health:
    """Return the health after these probes."""
    health = Health(SETTINGS)
    for result in results:
        health.observe(result)
    return health


@pytest.mark.parametrize(
    ("results", "healthy", "why"),
    [
        ((), False, "nothing is known before the first probe"),
        ((GOOD,), True, "the very first good probe suffices"),
        ((BAD, GOOD), False, "after a bad one, one good probe does not"),
        ((BAD, GOOD, GOOD), True, "the rise is complete"),
        ((BAD, GOOD, BAD, GOOD), False, "the good ones must follow each other"),
        ((GOOD, BAD, BAD), True, "the fall is not complete"),
        ((GOOD, BAD, BAD, BAD), False, "the fall is complete"),
        ((GOOD, BAD, TIMED_OUT, BAD), False, "a time-out is a bad probe"),
        ((GOOD, BAD, BAD, GOOD, BAD, BAD), True, "the bad ones must follow each other"),
        ((GOOD, REFUSED), False, "a refused connection is no matter of opinion"),
        ((GOOD, UNTRUSTED), False, "a certificate that is not good neither"),
        ((REFUSED, GOOD), False, "back from a refusal takes the full rise"),
        ((GOOD, REFUSED, GOOD, GOOD), True, "and no more than that"),
        ((GOOD, REFUSED, GOOD, REFUSED, GOOD), False, "a refusal begins the rise anew"),
    ],
)
def test_fall_and_rise(*, results: tuple[ProbeResult, ...], healthy: bool, why: str) -> None:
    """Three bad probes in a row take an endpoint out, two good ones take it in."""
    assert observe(*results).healthy is healthy, why


def test_the_first_good_probe_after_a_refused_lease_is_not_enough() -> None:
    """A lease whose connect fails counts as seen, also before the first probe."""
    health = Health(SETTINGS)
    assert not health.refuse()
    assert health.probed
    assert not health.observe(GOOD)
    assert health.observe(GOOD)


def test_a_refused_lease_takes_a_healthy_endpoint_out_at_once() -> None:
    """Only the flip is told, and only once."""
    health = observe(GOOD)
    assert health.refuse()
    assert not health.refuse()
    assert not health.healthy


@pytest.mark.parametrize(
    ("results", "interval_s"),
    [
        ((), 2.0),
        ((GOOD,), 2.0),
        ((GOOD, BAD), 2.0),
        ((GOOD, REFUSED), REFUSED_INTERVAL_S),
        ((REFUSED, GOOD), REFUSED_INTERVAL_S),
        ((REFUSED, GOOD, GOOD), 2.0),
        ((BAD, BAD), 2.0),
    ],
)
def test_a_return_is_looked_for_every_200_ms(results: tuple[ProbeResult, ...], interval_s: float) -> None:
    """Probes follow fast while connections fail or health is on its way back."""
    assert observe(*results).interval_s == interval_s


def test_the_short_interval_is_never_longer_than_the_set_one() -> None:
    """Who asks for a probe every 50 ms gets it."""
    health = Health(ProbeSettings(interval_s=0.05))
    health.observe(REFUSED)
    assert health.interval_s == 0.05


@given(st.lists(st.sampled_from(ProbeResult), max_size=30))
def test_flips_are_told_exactly(results: list[ProbeResult]) -> None:
    """`observe` answers whether `healthy` changed, and a good last run decides alone."""
    health = Health(SETTINGS)
    for result in results:
        before = health.healthy
        assert health.observe(result) is (health.healthy is not before)
        assert health.accepting or result not in {GOOD, BAD}
    if results[-SETTINGS.rise :] == [GOOD] * SETTINGS.rise:
        assert health.healthy
    if len(results) >= SETTINGS.fall and GOOD not in results[-SETTINGS.fall :]:
        assert not health.healthy
