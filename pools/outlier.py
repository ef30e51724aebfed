"""Owns passive, timed removal: an endpoint that answers errors in a row is ejected for a while.

Must not know the other endpoints; the pool keeps the cap.
"""

CONSECUTIVE_ERRORS = 5
BASE_S = 30.0
MOST_S = 300.0
CAP = 0.4


class Outlier:
    """Errors in a row and ejections of one endpoint."""

    __slots__ = ("ejected", "ejections", "errors", "until")

    def __init__(self) -> None:
        self.errors = 0
        self.ejections = 0
        self.ejected = False
        self.until = 0.0

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

    def end(self, now: float) -> bool:
        """End an ejection whose time is over; return whether one ended."""
        if not self.ejected or now < self.until:
            return False
        self.ejected, self.errors = False, 0
        return True


def may_eject(ejected: int, endpoints: int) -> bool:
    """Whether one more of a pool's endpoints may be ejected: at most 40 %, but at least one."""
    return ejected < max(1, int(endpoints * CAP))
