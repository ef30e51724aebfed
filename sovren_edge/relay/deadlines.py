"""Owns many deadlines, cheaply: no timer each, one coarse sweep for all.

Putting a deadline off, which is what nearly every event does, is one comparison: a thing stays in the bucket of its old
deadline and moves on when the sweep comes by. Must not know what is waited for, nor read a clock.
"""

from collections import defaultdict
from typing import Protocol

STEP_S = 0.05
NEVER = float("inf")


class Watched(Protocol):
    """What may expire; `deadline` is a point in time, the other two belong to the buckets."""

    deadline: float
    bucket: int
    looked_at: float

    def expire(self) -> None:
        """Act on a deadline that is over."""


class Deadlines:
    """Things in buckets of 50 ms by the time when they are next looked at."""

    def __init__(self, now: float) -> None:
        self._buckets: defaultdict[int, set[Watched]] = defaultdict(set)
        self._next = int(now / STEP_S)

    def bring_forward(self, thing: Watched) -> None:
        """Look at a thing by its deadline, which has come before the time when it would be looked at."""
        self.forget(thing)
        self._put(thing)

    def forget(self, thing: Watched) -> None:
        """Look at a thing no more."""
        if thing.looked_at != NEVER:
            self._buckets[thing.bucket].discard(thing)
            thing.looked_at = NEVER

    def sweep(self, now: float) -> None:
        """Expire what is over; what is not costs nothing until its bucket's time has come."""
        current = int(now / STEP_S)
        while self._next <= current:
            things = self._buckets.pop(self._next, ())
            self._next += 1
            for thing in things:
                thing.looked_at = NEVER
                if thing.deadline <= now:
                    thing.expire()
                elif thing.deadline != NEVER:
                    self._put(thing)

    def _put(self, thing: Watched) -> None:
        thing.bucket = max(int(thing.deadline / STEP_S) + 1, self._next)
        thing.looked_at = thing.bucket * STEP_S
        self._buckets[thing.bucket].add(thing)
