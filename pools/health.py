"""Owns what probes and refused connects say about an endpoint: healthy or not, by fall and rise.

Must not know who probes, nor when.
"""

import errno
from enum import StrEnum

from pools.settings import ProbeSettings

REFUSED_INTERVAL_S = 0.2
# Errors of connecting that say nothing about the endpoint: this machine has run out of something.
OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


class ProbeResult(StrEnum):
    """What one probe found."""

    GOOD = "good"
    BAD = "bad"
    TIMED_OUT = "timed_out"
    REFUSED = "refused"
    UNTRUSTED = "untrusted"  # its certificate could not be verified


class Health:
    """Observed health of one endpoint; unknown, so not healthy, before the first good probe."""

    __slots__ = ("_bad", "_good", "_settings", "accepting", "healthy", "probed")

    def __init__(self, settings: ProbeSettings) -> None:
        self._settings = settings
        self._good = 0
        self._bad = 0
        self.healthy = False
        self.probed = False
        # Whether the last connect succeeded: only such endpoints may serve in panic.
        self.accepting = False

    def observe(self, result: ProbeResult) -> bool:
        """Take one probe's result; return whether `healthy` flipped."""
        if result in {ProbeResult.REFUSED, ProbeResult.UNTRUSTED}:
            flipped = self.refuse()
        elif result is ProbeResult.GOOD:
            flipped = self._observe_good()
        else:
            flipped = self._observe_bad(answered=result is ProbeResult.BAD)
        self.probed = True
        return flipped

    def refuse(self) -> bool:
        """Take a failed connect: down at once, whatever was seen before; return whether `healthy` flipped."""
        flipped = self.healthy
        self.healthy = self.accepting = False
        self._good = 0
        # From here only probes lead back, and they need the full rise.
        self.probed = True
        return flipped

    @property
    def interval_s(self) -> float:
        """Seconds until the next probe: short while connects fail or health returns, so that a return is seen soon."""
        returning = not self.accepting or (self._good > 0 and not self.healthy)
        short = self.probed and returning
        return min(REFUSED_INTERVAL_S, self._settings.interval_s) if short else self._settings.interval_s

    def _observe_good(self) -> bool:
        self._good, self._bad, self.accepting = self._good + 1, 0, True
        if self.healthy or (self.probed and self._good < self._settings.rise):
            return False
        self.healthy = True
        return True

    def _observe_bad(self, *, answered: bool) -> bool:
        self._good, self._bad = 0, self._bad + 1
        # A time-out does not tell whether the connection was accepted: what was known last stands.
        self.accepting = self.accepting or answered
        if not self.healthy or self._bad < self._settings.fall:
            return False
        self.healthy = False
        return True
