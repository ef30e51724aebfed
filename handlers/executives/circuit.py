"""Owns whether the chat model is asked at all: after some failures nobody is, until it has answered a probe.

One failure may be the network's or the question's. Of a model that has not answered since it was found, one is enough:
so a model that is away at the start is known to be at the first probe, and one that answers probes but no calls costs
one caller's time, not three. Must not know how the model is asked.
"""

from typing import Final

FALL: Final = 3


class Circuit:
    """Open after `fall` failures in a row, of calls or probes; only a probe that is answered closes it."""

    def __init__(self, fall: int = FALL) -> None:
        self._fall = fall
        self._failures = fall - 1
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
        self.closed, self._failures = True, self._fall - 1 if closes else 0
        return closes
