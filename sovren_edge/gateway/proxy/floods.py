"""Owns counting refusals that are not rows of their own: one row for each subscriber, reason and minute.

Must not know requests or the ledger; minutes are handed in, counted from 1970.
"""

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flood:
    """How often a subscriber was refused for one reason within a minute."""

    subscriber: str
    service: str
    reason: str
    status: int
    minute: int


class Floods:
    """Counts until it is asked."""

    def __init__(self) -> None:
        self._counts: Counter[Flood] = Counter()

    def count(self, flood: Flood) -> None:
        """Count one refusal."""
        self._counts[flood] += 1

    def take(self, minute: int | None = None) -> dict[Flood, int]:
        """Return the counts of the minutes before this one, or all, and forget them."""
        taken = {flood: count for flood, count in self._counts.items() if minute is None or flood.minute < minute}
        for flood in taken:
            del self._counts[flood]
        return taken
