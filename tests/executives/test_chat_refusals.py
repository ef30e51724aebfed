"""What callers are told where the chat model gives no answer."""

import pytest

from handlers.executives.refusals import LONGEST_RETRY_S, RETRY_S, failed, refusal, says_unfit, too_slow, unavailable
from sovren_edge.handler import Side


@pytest.mark.parametrize(
    ("status", "told"),
    [(400, (502, "chat_refused")), (401, (502, "chat_refused")), (404, (502, "chat_refused")),
     (307, (502, "chat_refused")), (204, (502, "chat_refused")), (500, (502, "chat_failed")),
     (502, (502, "chat_failed")), (429, (503, "chat_busy")), (503, (503, "chat_busy"))],
)  # fmt: skip
def test_a_status_is_told_in_our_words(status: int, told: tuple[int, str]) -> None:
    """Whose fault it is, and whether it helps to ask again."""
    error = refusal(status, "")
    assert error is not None
    problem = error.problem
    assert (problem.status, problem.reason) == told
    assert (problem.side is Side.EDGE) is (problem.retry_after_s is None) is (problem.reason == "chat_refused")


def test_an_answer_is_no_refusal() -> None:
    """Of its form, the stream tells."""
    assert refusal(200, "5") is None


@pytest.mark.parametrize(
    ("field", "seconds"),
    [("7", 7), ("0", 1), ("9" * 9, LONGEST_RETRY_S), ("9" * 5000, RETRY_S), ("", RETRY_S), ("-1", RETRY_S),
     ("\u0665", RETRY_S), ("Wed, 21 Oct 2026 07:28:00 GMT", RETRY_S)],
)  # fmt: skip
def test_a_busy_model_says_when_it_may_be_asked_again(field: str, seconds: int) -> None:
    """Within reason."""
    error = refusal(429, field)
    assert error is not None
    assert error.problem.retry_after_s == seconds


def test_what_says_that_a_model_should_not_be_asked() -> None:
    """It is away or stuck; one that is busy, refuses or fails at a question may well answer another."""
    statuses = [refusal(status, "") for status in (429, 400, 500)]
    assert all(map(says_unfit, [unavailable(), too_slow(20.0)]))
    assert not any(says_unfit(error) for error in [failed(), *statuses] if error is not None)
