"""Owns how long the steps of answers take, as metrics.

Must not know what happens in a step.
"""

from collections.abc import Callable
from typing import Literal

from sovren_edge.handler import Metrics

Step = Literal["queue", "first_token", "first_audio", "whole"]
_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Steps:
    """Counts them; `now` tells seconds."""

    def __init__(self, metrics: Metrics, now: Callable[[], float]) -> None:
        self._seconds = metrics.histogram(
            "executives_step_seconds",
            "From a question to each step of its answer: a slot, the first token, the first audio, the whole.",
            ["step"],
            buckets=_BOUNDS_S,
        )
        self._now = now

    def begin(self) -> "Walk":
        """Return the steps of a new answer."""
        return Walk(self._now, lambda step, seconds: self._seconds.labels(step).observe(seconds))


class Walk:
    """The steps of one answer; each is reached once."""

    def __init__(self, now: Callable[[], float], observe: Callable[[Step, float], None]) -> None:
        self._now = now
        self._observe = observe
        self._begun = now()
        self._reached: set[Step] = set()

    def reached(self, step: Step) -> None:
        """Count a step, the first time."""
        if step not in self._reached:
            self._reached.add(step)
            self._observe(step, self._now() - self._begun)
