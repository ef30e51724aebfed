"""Owns whether the chat model is asked at all: after some failures nobody is, until it has answered a probe.

Calls and probes are counted apart: a server that lists its models may answer no question. One failure may be the
network's or the question's; of a model that has not answered since it was found, one is enough. Must not know how the
model is asked.
"""

from typing import Final

FALL: Final = 3


class Circuit:
    """Open after `fall` failures in a row, of calls or of probes; only a probe that is answered closes it."""

    def __init__(self, fall: int = FALL) -> None:
        self._fall = fall
        self._failed_calls = self._failed_probes = fall - 1
        self.closed = True

    def failed(self) -> bool:
        """Count a call that failed; return whether it opened the circuit."""
        self._failed_calls += 1
        return self._open_after(self._failed_calls)

    def missed(self) -> bool:
        """Count a probe that failed; return whether it opened the circuit."""
        self._failed_probes += 1
        return self._open_after(self._failed_probes)

    def answered(self) -> None:
        """Count an answer to a call: it ends a row of failed ones, and closes nothing that is open."""
        if self.closed:
            self._failed_calls = 0

    def probed(self) -> bool:
        """Count an answer to a probe; return whether it closed the circuit."""
        closes, self.closed = not self.closed, True
        self._failed_probes = 0
        self._failed_calls = self._fall - 1 if closes else self._failed_calls
        return closes

    def _open_after(self, failures: int) -> bool:
        opens = self.closed and failures >= self._fall
        self.closed = self.closed and not opens
        return opens
