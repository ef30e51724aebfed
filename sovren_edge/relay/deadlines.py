"""Owns many deadlines of one duration, cheaply: no timer each, one coarse sweep for all.

Must not know what a deadline is for, nor read a clock.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Things in the order in which they started to wait; as all wait equally long, the first expires first."""

    __slots__ = ("_since", "timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._since: dict[T, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def start(self, thing: T, now: float) -> None:
        """Let a thing's time begin, or begin anew."""
        self._since.pop(thing, None)
        self._since[thing] = now

    def stop(self, thing: T) -> None:
        """Forget a thing."""
        self._since.pop(thing, None)

    def expire(self, now: float) -> Iterator[T]:
        """Yield and forget what has waited too long; what is not over costs nothing."""
        while self._since:
            thing, since = next(iter(self._since.items()))
            if now - since < self.timeout_s:
                return
            del self._since[thing]
            yield thing
