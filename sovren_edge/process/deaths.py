"""Owns when a worker that died is started again, and when it no longer is.

Must not know processes, nor read a clock.
"""

from collections import deque

# So many deaths within so long, and it is not started again.
MOST, WITHIN_S = 5, 60.0
FIRST_DELAY_S, LONGEST_DELAY_S = 0.05, 2.0


class Deaths:
    """The deaths of one worker, in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=MOST)

    def next_delay(self, now: float) -> float | None:
        """Take note of a death; return how long to wait before the next life, None if there is to be none."""
        self._times.append(now)
        recent = sum(now - at < WITHIN_S for at in self._times)
        if recent >= MOST:
            return None
        return min(FIRST_DELAY_S * 4.0 ** (recent - 1), LONGEST_DELAY_S)

    def forgive(self) -> None:
        """Forget all: its operator lets it try anew."""
        self._times.clear()
