"""Owns what is counted of answers: how long their steps take, how they end, and how many callers shared one.

Must not know how an answer is made.
"""

from collections.abc import Callable
from typing import Literal

from handlers.executives.events import Done, End
from handlers.executives.interaction import GIVEN_UP
from sovren_edge.handler import Metrics, Side

Step = Literal["queue", "first_token", "first_audio", "whole"]
_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Measures:
    """Counts all answers; `now` tells seconds."""

    def __init__(self, metrics: Metrics, now: Callable[[], float]) -> None:
        self._seconds = metrics.histogram(
            "executives_step_seconds",
            "From a question to each step of its answer: a slot, the first token, the first audio, the whole.",
            ["step"],
            buckets=_BOUNDS_S,
        )
        self._answers = metrics.counter(
            "executives_answers_total", "Answers that were made, by their end.", ["outcome"]
        )
        self._shared = metrics.counter("executives_shared_total", "Questions that got an answer made for another.")
        self._now = now

    def begin(self) -> "Walk":
        """Return the steps of a new answer."""
        return Walk(self._now, lambda step, seconds: self._seconds.labels(step).observe(seconds))

    def ended(self, end: End | None) -> None:
        """Count how an answer ended."""
        self._answers.labels(_outcome(end)).inc()

    def shared(self) -> None:
        """Count a question that needed no answer of its own."""
        self._shared.inc()


def _outcome(end: End | None) -> str:
    if isinstance(end, Done):
        return "done"
    if end is None or end.problem is GIVEN_UP:
        return "given_up"
    return "refused" if end.problem.side is Side.CALLER else "failed"


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
