"""When a request is sent again, and after how long."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovren_edge.gateway.proxy.retrying import FIRST_PAUSE_S, LATEST_S, asked_s, pause_before

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ([], 0.0),
        (["7"], 7.0),
        ([" 7 ", "9"], 7.0),
        (["99999999999999999999"], 9999999999.0),
        (["Sat, 28 Nov 2026 12:00:30 GMT"], 30.0),
        (["Sat, 28 Nov 2026 12:00:30 -0000"], 30.0),
        (["Sat, 28 Nov 2026 13:00:30 +0100"], 30.0),
        (["Sat, 28 Nov 2026 11:00:00 GMT"], 0.0),
        (["soon"], 0.0),
        (["Mon, 01 Jan 99999999999999999999 00:00:00 GMT"], 0.0),
        (["-3"], 0.0),
        (["\u0663"], 0.0),
    ],
)
def test_what_retry_after_asks_for(written: list[str], seconds: float) -> None:
    """A number of seconds, or a date of HTTP; what is neither asks for nothing."""
    assert asked_s(written, NOW) == seconds


def test_pauses_grow_and_end() -> None:
    """Each is twice the last, unless upstream asks for more; none ends after the time in which all must begin."""
    assert pause_before(1, [], 0.0, NOW) == FIRST_PAUSE_S
    assert pause_before(2, [], 0.0, NOW) == 2 * FIRST_PAUSE_S
    assert pause_before(1, ["3"], 1.0, NOW) == 3.0
    assert pause_before(1, ["30"], 0.0, NOW) is None
    assert pause_before(1, [], LATEST_S, NOW) is None


@given(st.text(max_size=40), st.integers(1, 2), st.floats(0, 60))
def test_nothing_that_upstream_writes_makes_a_pause_of_no_use(text: str, tries: int, elapsed_s: float) -> None:
    """It is never negative, and never ends too late."""
    pause_s = pause_before(tries, [text], elapsed_s, NOW)
    assert pause_s is None or FIRST_PAUSE_S <= pause_s < LATEST_S - elapsed_s
