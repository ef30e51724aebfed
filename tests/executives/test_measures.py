"""What is counted of answers."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from handlers.executives.events import Done, End, Failed
from handlers.executives.interaction import GIVEN_UP
from handlers.executives.measures import Measures
from handlers.executives.models import Answer
from sovren_edge.handler import Metrics, Problem

ANSWER = Answer(
    executive_id="ceo", response="Yes.", timestamp=datetime(2026, 11, 25, tzinfo=UTC), session_id=UUID(int=0)
)


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (Done(ANSWER), "done"),
        (Failed(Problem(502, "chat_failed", "It failed.")), "failed"),
        (Failed(GIVEN_UP), "given_up"),
        (None, "given_up"),
    ],
)
def test_answers_are_counted_by_their_end(end: End | None, outcome: str) -> None:
    """One that nobody waited for is no failure."""
    metrics = Metrics()
    Measures(metrics, lambda: 0.0).ended(end)
    assert metrics.registry.get_sample_value("executives_answers_total", {"outcome": outcome}) == 1


def test_a_step_is_reached_once() -> None:
    """The first time counts, from the question on."""
    metrics, seconds = Metrics(), [10.0]
    measures = Measures(metrics, lambda: seconds[0])
    walk = measures.begin()
    for seconds[0] in (10.5, 99.0):
        walk.reached("first_audio")
    measures.shared()
    assert metrics.registry.get_sample_value("executives_step_seconds_sum", {"step": "first_audio"}) == 0.5
    assert metrics.registry.get_sample_value("executives_shared_total") == 1
