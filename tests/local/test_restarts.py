"""When a process that died is started again."""

import pytest

from sovren_edge.local.restarts import next_delay


def test_the_delay_doubles_to_its_limit() -> None:
    """From 1 s to 30 s."""
    delays = [0.0]
    for _ in range(7):
        delays.append(next_delay(delays[-1], lived_s=1.0))
    assert delays[1:] == [1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize("delay_s", [0.0, 1.0, 30.0])
def test_a_long_life_is_forgiven(delay_s: float) -> None:
    """After 60 s of life the delay is the shortest again."""
    assert next_delay(delay_s, lived_s=60.0) == 1.0
