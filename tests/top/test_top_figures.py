"""Numbers, bars and trails say much in few characters, and never the opposite of what is."""

import pytest

from sovren_edge.cli.top import figures


@pytest.mark.parametrize(
    ("per_s", "said"), [(None, "-"), (0.0, "0"), (0.04, "0.0"), (5.94, "5.9"), (412.6, "413"), (12_345.0, "12k")]
)
def test_rates(per_s: float | None, said: str) -> None:
    """Nothing is another thing than nothing known."""
    assert figures.rate(per_s) == said


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0"), (999, "999"), (999.7, "1.0k"), (1204, "1.2k"), (2_500_000, "2.5M"), (3e15, "3000T")]
)
def test_counts(number: float, said: str) -> None:
    """Two digits are enough."""
    assert figures.count(number) == said


@pytest.mark.parametrize(("size", "said"), [(None, "-"), (512, "512B"), (88_080_384, "84M"), (1_610_612_736, "1.5G")])
def test_sizes(size: int | None, said: str) -> None:
    """In powers of 1024."""
    assert figures.size(size) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "-"), (0.0004, "0.4 ms"), (0.21, "210 ms"), (0.9994, "999 ms"), (0.9996, "1.00 s"), (12.345, "12.35 s")],
)
def test_durations(seconds: float | None, said: str) -> None:
    """In milliseconds below a second."""
    assert figures.duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(-5.0, "0s"), (42.9, "42s"), (65.0, "1m05"), (11_100.0, "3h05"), (180_000.0, "2d02")]
)
def test_ages(seconds: float, said: str) -> None:
    """A clock that was set back makes nothing younger than now."""
    assert figures.age(seconds) == said


def test_the_time_of_day() -> None:
    """In UTC, as in the log."""
    assert figures.clock(1_795_855_467.9) == "08:44:27"


def test_percentages() -> None:
    """Of one core, so that there may be more than 100."""
    assert [figures.percent(part) for part in (None, 0.031, 1.5)] == ["-", "3%", "150%"]


@pytest.mark.parametrize(
    ("inflight", "limit", "slots", "shown"),
    [
        (0, 2, 2, "░░        "),
        (1, 2, 2, "█░        "),
        (5, 2, 2, "██        "),  # fewer slots than before, by hand
        (1, 1, 4, "█···      "),  # back a moment ago
        (2, 1, 4, "██··      "),  # with leases that are older than its return
        (1, 64, 64, "█░░░░░░░░░"),
        (63, 64, 64, "█████████░"),
        (64, 64, 64, "██████████"),
        (0, 0, 0, "          "),
        (1, 1, 1, "█         "),
    ],
)
def test_bars(inflight: int, limit: int, slots: int, shown: str) -> None:
    """One character a slot while there is room; else never empty nor full that is not."""
    assert figures.bar(inflight, limit, slots, width=10).plain == shown


def test_a_bar_without_a_free_slot_has_another_colour() -> None:
    """There callers begin to wait."""
    assert "yellow" in {span.style for span in figures.bar(2, 2, 4, width=10).spans}
    assert "green" in {span.style for span in figures.bar(1, 2, 4, width=10).spans}


def test_trails() -> None:
    """Several have one scale, and a gap stands where nothing came."""
    trails = [(0.1, None, 0.2), (0.8, 0.4)]
    top = figures.highest(trails)
    assert [figures.trail(one, top, width=4) for one in trails] == [" ▂ ▃", "  █▅"]
    assert figures.trail((0.8, 0.1, 0.2), top, width=2) == "▂▃"
    assert figures.trail((0.0, None), figures.highest([()]), width=2) == "▁ "
