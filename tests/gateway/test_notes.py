"""Refusals that are remembered for a moment."""

import pytest

from sovren_edge.gateway.limit import notes as notes_module
from sovren_edge.gateway.limit.limiter import Crowded, Exceeded, Quota
from sovren_edge.gateway.limit.notes import KEPT_US, Notes

NOW_US = 1_000_000_000_000
FULL = Exceeded(Quota(100, 100, NOW_US + 10 * KEPT_US, NOW_US + 3600 * KEPT_US))


def test_a_refusal_is_remembered_for_a_second() -> None:
    """And for no longer than until a place is free."""
    notes = Notes()
    notes.keep("ann", FULL, NOW_US)
    assert notes.find("ann", NOW_US) == FULL
    assert notes.find("ann", NOW_US + KEPT_US - 1) == FULL
    assert notes.find("bob", NOW_US) is None
    assert notes.find("ann", NOW_US + KEPT_US) is None
    soon = Exceeded(Quota(100, 100, NOW_US + 5, NOW_US + 9))
    notes.keep("ann", soon, NOW_US)
    assert notes.find("ann", NOW_US + 4) == soon
    assert notes.find("ann", NOW_US + 5) is None


def test_a_clock_that_goes_back_makes_no_note_last_longer() -> None:
    """It is forgotten then."""
    notes = Notes()
    notes.keep("ann", FULL, NOW_US)
    assert notes.find("ann", NOW_US - 1) is None
    assert notes.find("ann", NOW_US) is None


def test_a_place_that_becomes_free_ends_a_note() -> None:
    """Crowds end with any request in flight."""
    notes = Notes()
    crowd = Crowded(FULL.quota)
    notes.keep("ann", crowd, NOW_US)
    assert notes.find("ann", NOW_US) == crowd
    notes.drop("ann")
    notes.drop("ann")
    assert notes.find("ann", NOW_US) is None


def test_notes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are a second old at most, so all of them may go."""
    monkeypatch.setattr(notes_module, "MOST", 3)
    notes = Notes()
    for name in "abcd":
        notes.keep(name, FULL, NOW_US)
    assert [name for name in "abcd" if notes.find(name, NOW_US)] == ["d"]
