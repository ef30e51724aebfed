"""Owns what is remembered of refusals for a moment, so that a flood of them asks nobody.

Must not know who refuses, nor clocks: times are microseconds, handed in.
"""

from dataclasses import dataclass

from sovren_edge.gateway.limit.limiter import Crowded, Exceeded

KEPT_US = 1_000_000
MOST = 10_000

Refused = Exceeded | Crowded


@dataclass(frozen=True, slots=True)
class _Note:
    decision: Refused
    until_us: int


class Notes:
    """The last refusal of each subscriber, for a second at most, and until a place is free."""

    def __init__(self) -> None:
        self._notes: dict[str, _Note] = {}

    def keep(self, subscriber: str, decision: Refused, now_us: int) -> None:
        """Remember a refusal."""
        until_us = now_us + KEPT_US
        if isinstance(decision, Exceeded):
            until_us = min(until_us, decision.quota.next_slot_at_us)
        if len(self._notes) >= MOST:
            # They save a question each, and are a second old at most.
            self._notes.clear()
        self._notes[subscriber] = _Note(decision, until_us)

    def find(self, subscriber: str, now_us: int) -> Refused | None:
        """Return a refusal that would be repeated."""
        note = self._notes.get(subscriber)
        if note is None:
            return None
        # A clock that went back makes no note last longer.
        if 0 < note.until_us - now_us <= KEPT_US:
            return note.decision
        del self._notes[subscriber]
        return None

    def drop(self, subscriber: str) -> None:
        """Forget it: a place has become free."""
        self._notes.pop(subscriber, None)
