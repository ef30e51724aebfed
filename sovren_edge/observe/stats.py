"""Owns counting on the hot path: plain integers and fixed buckets, nothing else.

Must not know Prometheus; `metrics` translates when somebody asks.
"""

from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REDIRECT, CALLER_LEFT, SERVER_ERROR = 300, 499, 500
DURATION_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """Counts observations in seconds by upper bound; the last bucket has none."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = DURATION_BOUNDS_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    @property
    def count(self) -> int:
        """All observations."""
        return sum(self.counts)

    def quantile(self, fraction: float) -> float | None:
        """Return the upper bound (seconds) under which this fraction lies; None without observations."""
        rank, seen = fraction * self.count, 0
        if not self.count:
            return None
        for bound, count in zip(self.bounds, self.counts, strict=False):
            seen += count
            if seen >= rank:
                return bound
        return float("inf")


class ListenerStats:
    """What one listener counts."""

    def __init__(self, listener: str, service: str, *, speech: bool = False) -> None:
        self.listener = listener
        self.service = service
        self.speech = speech
        # Days until its certificate expires, and failures to load a newer one; None without TLS.
        self.certificate: Callable[[], tuple[float, int]] | None = None
        self.requests: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.duration = Histogram()
        self.synthesis = Histogram()
        self.speech_requests = 0
        self.connections = 0
        self.callers_left = 0
        self.tunnels = 0
        # Connections that were not served, by reason.
        self.refused: defaultdict[str, int] = defaultdict(int)
        # By kind.
        self.timeouts: defaultdict[str, int] = defaultdict(int)
        self.speech_failed = 0

    @property
    def errors(self) -> int:
        """Requests that were answered with a status of 500 or above."""
        return sum(count for (_, status), count in self.requests.items() if status >= SERVER_ERROR)

    def count_refusal(self, status: int) -> None:
        """Count bytes that were no request; their method is nobody's, and they would blur the durations."""
        self.requests["other", status] += 1

    def count_speech(self, status: int, duration_s: float, *, whole: bool) -> None:
        """Count one finished request for speech; a failure that comes fast must not make speech look fast."""
        self.speech_requests += 1
        if status >= SERVER_ERROR or not (whole or status == CALLER_LEFT):
            self.speech_failed += 1
        elif whole and status < REDIRECT:
            self.synthesis.observe(duration_s)

    def count(self, method: str, status: int, duration_s: float) -> None:
        """Count one finished request; status 499 means that its caller left before an answer began."""
        self.requests[method, status] += 1
        self.duration.observe(duration_s)


class EndpointStats:
    """What is counted of one endpoint; `attempts` by outcome."""

    def __init__(self) -> None:
        self.attempts: defaultdict[str, int] = defaultdict(int)
        self.ttfa = Histogram()
        self.duration = Histogram()


class PoolStats:
    """What is counted of one pool and its endpoints (by name)."""

    def __init__(self) -> None:
        self.endpoints: defaultdict[str, EndpointStats] = defaultdict(EndpointStats)
        self.queue_wait = Histogram()
        # To the first byte that a caller hears: of an answer as a whole, whoever speaks it, and however often.
        self.ttfa = Histogram()
        # How far a lease's estimated duration was from the real one.
        self.estimate_error = Histogram()
        self.refusals: defaultdict[str, int] = defaultdict(int)
        self.retries = 0
        # Second attempts beside slow first ones.
        self.hedges = 0
        # Requests that got the answer to an equal one.
        self.coalesced = 0
        # Answers that are kept, and requests that got one of them.
        self.kept_answers = 0
        self.kept_bytes = 0
        self.kept_served = 0
        # Texts that were spoken in parts, their parts, those that had to be spoken again, and silences heard.
        self.scattered = 0
        self.parts = 0
        self.parts_repeated = 0
        self.underruns = 0
