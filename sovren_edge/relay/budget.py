"""Owns how much memory all connections together may have for what is on its way.

Must not know what it is.
"""


class Budget:
    """So many bytes; whoever gets some gives them back."""

    __slots__ = ("_limit", "taken")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.taken = 0

    def take(self, size: int) -> bool:
        """Return whether there are so many bytes left, and take them if so."""
        if self.taken + size > self._limit:
            return False
        self.taken += size
        return True

    def give(self, size: int) -> None:
        """Take bytes back."""
        self.taken -= size
