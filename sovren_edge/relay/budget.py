"""Owns how much memory all connections together may have for what is on its way.

Must not know what it is.
"""

# As much may come in one read of a connection.
READ = 256 * 1024


class Budget:
    """So many bytes; whoever gets some gives them back."""

    __slots__ = ("_limit", "taken")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.taken = 0

    def take(self, size: int, *, must: bool = False) -> bool:
        """Return whether there are so many bytes left, and take them if so.

        What `must` be had is taken in any case, and so is not left for others.
        """
        if not must and self.taken + size > self._limit:
            return False
        self.taken += size
        return True

    @property
    def left(self) -> int:
        """Bytes that can still be taken; below zero where some had to be had."""
        return self._limit - self.taken

    def give(self, size: int) -> None:
        """Take bytes back."""
        self.taken -= size


class Share:
    """What one thing has of a budget: as much as it was fitted to last, nothing at first."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    def fit(self, size: int, *, must: bool = False) -> bool:
        """Have so many bytes in all; return whether there are as many, otherwise it stays as it is.

        `must` is as for Budget.take.
        """
        more = size - self._size
        if more < 0:
            self._budget.give(-more)
        elif more and not self._budget.take(more, must=must):
            return False
        self._size = size
        return True
