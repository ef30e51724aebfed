"""Owns passive, timed removal: an endpoint that answers errors in a row, or flaps, is ejected for a while.

Must not know the other endpoints; the pool keeps the cap.
"""

from collections import deque

CONSECUTIVE_ERRORS = 5
BASE_S = 30.0
MOST_S = 300.0
CAP = 0.4
# More flips of health than so many in so long keep an endpoint out for as long.
FLIPS, FLAPPING_S = 4, 300.0


class Outlier:
    """Errors in a row and ejections of one endpoint."""

    __slots__ = ("_flips", "ejected", "ejections", "errors", "flapping", "until")

    def __init__(self) -> None:
        self.errors = 0
        self.ejections = 0
        self.ejected = False
        self.until = 0.0
        # Whether it is ejected because nobody can tell whether it is healthy.
        self.flapping = False
        self._flips: deque[float] = deque(maxlen=FLIPS + 1)

    def succeed(self) -> None:
        """Take a good answer."""
        self.errors = 0

    def fail(self) -> bool:
        """Take an error; return whether the endpoint has earned an ejection."""
        self.errors += 1
        return not self.ejected and self.errors >= CONSECUTIVE_ERRORS

    def eject(self, now: float, jitter: float) -> None:
        """Eject for 30 s times the ejections so far, at most 300 s, longer by up to a tenth (`jitter` 0 to 1)."""
        self.ejections += 1
        self.ejected = True
        self.until = now + min(MOST_S, BASE_S * self.ejections) * (1 + jitter / 10)

    def flip(self, now: float) -> bool:
        """Take a flip of its health; return whether it has earned an ejection by flipping too often."""
        self._flips.append(now)
        return not self.flapping and len(self._flips) > FLIPS and now - self._flips[0] <= FLAPPING_S

    def eject_flapping(self, now: float) -> None:
        """Eject for five minutes."""
        self.ejections += 1
        self.ejected = self.flapping = True
        self.until = now + FLAPPING_S
        self._flips.clear()

    def end(self, now: float) -> bool:
        """End an ejection whose time is over; return whether one ended."""
        if not self.ejected or now < self.until:
            return False
        self.ejected, self.flapping, self.errors = False, False, 0
        return True


def may_eject(ejected: int, endpoints: int) -> bool:
    """Whether one more of a pool's endpoints may be ejected: at most 40 %, but at least one."""
    return ejected < max(1, int(endpoints * CAP))
