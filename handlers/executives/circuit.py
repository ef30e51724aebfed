"""Owns whether the chat model is asked at all: after some failures nobody is, until it has answered a probe.

Must not know how it is asked.
"""

from typing import Final

FALL: Final = 3


class Circuit:
    """Open after `fall` failures in a row, of calls or probes; a probe that is answered closes it."""

    def __init__(self, fall: int = FALL) -> None:
        self._fall = fall
        self._failures = 0
        self.closed = True

    def failed(self) -> bool:
        """Count a failure; return whether it opened the circuit."""
        self._failures += 1
        opens = self.closed and self._failures >= self._fall
        self.closed = self.closed and not opens
        return opens

    def answered(self) -> None:
        """Count an answer to a call: it ends a row of failures, and closes nothing that is open."""
        if self.closed:
            self._failures = 0

    def probed(self) -> bool:
        """Count an answer to a probe; return whether it closed the circuit."""
        closes = not self.closed
        self.closed, self._failures = True, 0
        return closes
