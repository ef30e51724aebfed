"""Owns what has changed between two looks at the program, and the trail of the looks before.

Pure: time comes in. Must not know how anything is shown.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from sovren_edge.cli.described import Snapshot, Times

LOOKS = 60
# A look that comes sooner after another says too little about what happens in a second.
LEAST_S = 0.5

Key = tuple[str, ...]
"""A kind of thing, its name, and what is counted of it."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen, how much each counter grows in a second, and TTFA (seconds) at the last looks.

    A counter that was not there before has no rate; a look at which nothing came has None in its trail.
    """

    seen: Snapshot
    per_s: Mapping[Key, float] = field(default_factory=dict)
    trails: Mapping[Key, tuple[float | None, ...]] = field(default_factory=dict)


class History:
    """The looks until now."""

    def __init__(self) -> None:
        self._look: Look | None = None
        self._at = 0.0
        self._trails: dict[Key, deque[float | None]] = {}

    def take(self, seen: Snapshot, now: float) -> Look:
        """Return what is to be shown of a look at `now` (seconds of a clock that is never set)."""
        if self._look is None:
            self._look, self._at = Look(seen), now
        elif now - self._at < LEAST_S:
            # What is counted from is still the look before.
            return replace(self._look, seen=seen)
        else:
            before, passed = self._look.seen, now - self._at
            self._leave_trails(before, seen)
            trails = {key: tuple(trail) for key, trail in self._trails.items()}
            self._look, self._at = Look(seen, _rates(before, seen, passed), trails), now
        return self._look

    def _leave_trails(self, before: Snapshot, seen: Snapshot) -> None:
        earlier, now = dict(_times(before)), dict(_times(seen))
        for key in now:
            self._trails.setdefault(key, deque(maxlen=LOOKS))
        for key, trail in tuple(self._trails.items()):
            trail.append(_mean(earlier[key], now[key]) if key in earlier and key in now else None)
            if key not in now and all(value is None for value in trail):
                del self._trails[key]


def _rates(before: Snapshot, seen: Snapshot, passed_s: float) -> dict[Key, float]:
    earlier = dict(_counters(before))
    return {
        # What counts from zero again belongs to a process that has begun anew.
        key: (count - earlier[key] if count >= earlier[key] else count) / passed_s
        for key, count in _counters(seen)
        if key in earlier
    }


def _mean(earlier: Times, now: Times) -> float | None:
    if now.count < earlier.count:
        earlier = Times()
    count = now.count - earlier.count
    return (now.sum_s - earlier.sum_s) / count if count else None


def _counters(seen: Snapshot) -> Iterator[tuple[Key, float]]:
    for worker in seen.workers:
        if worker.cpu_s is not None:
            yield ("worker", worker.name, "cpu"), worker.cpu_s
    for port in seen.ports:
        # Several processes may serve one port.
        yield ("port", port.worker, port.name, "requests"), port.requests
        yield ("port", port.worker, port.name, "errors"), port.errors
    for pool in seen.pools:
        for endpoint in pool.endpoints:
            attempts = endpoint.attempts
            yield ("endpoint", pool.name, endpoint.name, "sent"), sum(attempts.values())
            failures = attempts.get("failed", 0) + attempts.get("refused", 0)
            yield ("endpoint", pool.name, endpoint.name, "failed"), failures
    if seen.gateway is not None:
        yield ("gateway", "allowed"), seen.gateway.requests.allowed
        yield ("gateway", "refused"), seen.gateway.requests.refused


def _times(seen: Snapshot) -> Iterator[tuple[Key, Times]]:
    for pool in seen.pools:
        yield ("pool", pool.name), pool.ttfa_s
        for endpoint in pool.endpoints:
            yield ("endpoint", pool.name, endpoint.name), endpoint.ttfa_s
