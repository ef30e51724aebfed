"""Owns what is known of Redis's clock between its answers: its last time, and how far the own clock has run since.

Must not know who asks for times. All are microseconds.
"""

# An answer is late by at most a call's timeout, and clocks that are slewed drift by less than a thousandth.
STEP_US = 1_000_000
DRIFT = 1000


class RedisClock:
    """Redis's clock, as its answers tell; `steps` counts those forward, which free grants too early."""

    def __init__(self) -> None:
        self.steps = 0
        self._redis_us: int | None = None
        self._local_us = 0

    def saw(self, redis_us: int, local_us: int) -> int:
        """Take note of an answer's time; return by how much the clock stepped forward since the last, 0 if it ran."""
        ahead_us = 0 if self._redis_us is None else redis_us - self.at(local_us)
        most_us = STEP_US + (local_us - self._local_us) // DRIFT
        self._redis_us, self._local_us = redis_us, local_us
        if ahead_us <= most_us:
            return 0
        self.steps += 1
        return ahead_us

    def at(self, local_us: int) -> int:
        """Return what it shows at a time of the own clock; before the first answer, that time itself."""
        return local_us if self._redis_us is None else self._redis_us + local_us - self._local_us
