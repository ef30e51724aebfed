"""What a text is expected to cost, learned from texts that were spoken."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.estimate import ENOUGH, LEAST_S, MOST_S, VOICES, Estimates

TEXTS = st.lists(st.tuples(st.floats(0, 100_000), st.floats(0, 1_000)), max_size=40)


def learned(first_s: float, rate: float, *, times: int = 60, noise: float = 0.0) -> Estimates:
    """Return what is learned from an engine of one voice."""
    dice, estimates = Random(3), Estimates()
    for _ in range(times):
        characters = dice.lognormvariate(4.5, 0.8)
        seconds = (first_s + characters / rate) * dice.lognormvariate(0.0, noise)
        estimates.observe(characters, seconds, "e", "alloy")
    return estimates


@pytest.mark.parametrize(("first_s", "rate"), [(0.0125, 1200.0), (0.5, 60.0), (0.15, 4000.0)])
@pytest.mark.parametrize("characters", [10, 100, 1500])
def test_a_linear_engine_is_learned(first_s: float, rate: float, characters: int) -> None:
    """Within a hundredth, also beyond the texts that were seen."""
    real = first_s + characters / rate
    estimate_s = learned(first_s, rate).seconds(characters, "e", "alloy")
    assert abs(estimate_s - real) < 0.01 * real + 0.001


def test_a_noisy_engine_is_learned_on_the_whole() -> None:
    """Within a third for a text of usual length."""
    estimate_s = learned(0.0125, 1200.0, times=300, noise=0.4).seconds(90, "e", "alloy")
    assert 0.06 < estimate_s < 0.14


def test_an_engine_that_becomes_slow_is_learned_anew() -> None:
    """What was long ago fades."""
    estimates = learned(0.0, 1000.0)
    for characters in range(50, 1050, 5):
        estimates.observe(characters, characters / 250, "e", "alloy")
    assert estimates.seconds(500, "e", "alloy") == pytest.approx(2.0, rel=0.1)


def test_each_endpoint_and_voice_has_a_line_of_its_own() -> None:
    """One that is not known well is taken for its endpoint's, and an unknown endpoint for any."""
    estimates = Estimates()
    for characters in range(100, 1100, 10):
        estimates.observe(characters, characters / 1000, "fast", "alloy")
        estimates.observe(characters, characters / 100, "slow", "alloy")
        estimates.observe(characters, characters / 50, "slow", "deep")
    assert estimates.seconds(500, "fast", "alloy") == pytest.approx(0.5, rel=0.01)
    assert estimates.seconds(500, "slow", "alloy") == pytest.approx(5.0, rel=0.01)
    assert estimates.seconds(500, "slow", "deep") == pytest.approx(10.0, rel=0.01)
    assert 5.0 < estimates.seconds(500, "slow", "new") < 10.0
    assert 0.5 < estimates.seconds(500, "new") < 10.0
    estimates.forget("slow")
    assert estimates.seconds(500, "slow", "alloy") == estimates.seconds(500, "new", "alloy")


def test_a_text_that_cannot_be_read_costs_the_mean() -> None:
    """Of those that were."""
    estimates = Estimates()
    for _ in range(200):
        estimates.observe(300, 3.0, "e", "alloy")
    assert estimates.seconds(None, "e", "alloy") == pytest.approx(3.0, rel=0.01)


def test_the_voices_are_bounded() -> None:
    """The oldest is forgotten; callers choose their names."""
    estimates = Estimates()
    for _ in range(int(ENOUGH) + 2):
        estimates.observe(100, 50.0, "e", "first")
    before = estimates.seconds(100, "e", "first")
    for number in range(VOICES):
        estimates.observe(100, 1.0, "e", f"{number}")
    assert estimates.seconds(100, "e", "first") < before / 2


def test_a_thousand_voices_are_known_of_each_endpoint() -> None:
    """However many endpoints a pool has: none of the first one's voices is forgotten for those of the others."""
    estimates = Estimates()
    for endpoint in range(5):
        for voice in range(VOICES):
            for _ in range(int(ENOUGH) + 2):
                estimates.observe(100, 1.0 + voice / VOICES, f"{endpoint}", f"{voice}")
    for voice in (0, VOICES - 1):
        assert estimates.seconds(100, "0", f"{voice}") == pytest.approx(1.0 + voice / VOICES)


@given(texts=TEXTS, characters=st.one_of(st.none(), st.floats(0, 1_000_000)))
def test_an_estimate_is_bounded(texts: list[tuple[float, float]], characters: float | None) -> None:
    """Whatever was observed; and a longer text never costs less."""
    estimates = Estimates()
    for length, seconds in texts:
        estimates.observe(length, seconds, "e", "v")
    estimate_s = estimates.seconds(characters, "e", "v")
    assert LEAST_S <= estimate_s <= MOST_S
    if characters is not None:
        assert estimates.seconds(characters * 2 + 1, "e", "v") >= estimate_s
