"""Owns the errors that balanced ports answer with themselves.

Must not know when each is due.
"""

from pools.admission import Refusal
from sovren_edge.errors import Problem, Side
from sovren_edge.http.request import HeadError

RETRY_AFTER_S = 3

_REFUSALS = {
    Refusal.QUEUE_FULL: "Every slot is taken and the queue is full.",
    Refusal.TOO_LATE: "No slot is expected to become free before the request's deadline.",
    Refusal.QUEUE_TIMEOUT: "No slot became free in time.",
    Refusal.NO_ENDPOINT: "No endpoint of this service is ready.",
}

ADDRESS_NOT_ALLOWED = Problem(403, "address_not_allowed", "Your address may not call this port.", Side.CALLER)
EXHAUSTED = Problem(503, "edge_exhausted", "No further connection can be opened now.", retry_after_s=1)


def refused(refusal: Refusal, jitter: int) -> Problem:
    """Say that nobody can serve now; `jitter` (0 to 2 s) spreads the callers that come again."""
    return Problem(503, refusal, _REFUSALS[refusal], Side.EDGE, retry_after_s=1 + jitter)


def malformed_head(error: HeadError) -> Problem:
    """Say what is wrong with a request's head."""
    return Problem(error.status, error.reason, error.detail, Side.CALLER)


def malformed_body(detail: str) -> Problem:
    """Say what is wrong with a request's body."""
    return Problem(400, "malformed_body", f"The request's body is malformed: {detail}.", Side.CALLER)


def upstream_failed(reason: str) -> Problem:
    """Say why the endpoint's answer could not begin."""
    return Problem(502, "upstream_failed", f"The endpoint did not answer: {reason}.", Side.UPSTREAM)
