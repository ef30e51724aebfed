"""Owns what can take too long, and what that means: the answer, the counter, and whether the endpoint is to blame.

Must not know connections or clocks.
"""

from typing import NamedTuple

from pools.admission import Outcome
from sovren_edge.errors import Problem, Side
from sovren_edge.http.response import SWITCHED


class Timeout(NamedTuple):
    """One way of taking too long; `kind` names its counter, `outcome` is how the lease ends."""

    kind: str
    problem: Problem
    outcome: Outcome


def _of_caller(kind: str, status: int, detail: str) -> Timeout:
    return Timeout(kind, Problem(status, f"{kind}_timeout", detail, Side.CALLER), Outcome.LEFT)


def _of_endpoint(kind: str, reason: str, detail: str) -> Timeout:
    return Timeout(kind, Problem(504, reason, detail, Side.UPSTREAM), Outcome.FAILED)


HEAD = _of_caller("head", 408, "The request's head did not arrive in time.")
BODY = _of_caller("body", 408, "The request's body did not arrive in time.")
READER = _of_caller("reader", 408, "The caller read nothing of its answer for too long.")
TUNNEL = _of_caller("tunnel", 408, "Nothing passed through the tunnel for too long.")
FIRST_BYTE = _of_endpoint("first_byte", "upstream_timeout", "The endpoint did not answer in time.")
IDLE = _of_endpoint("idle", "idle_timeout", "The endpoint paused for too long in its answer.")
TOTAL = Timeout(
    "total", Problem(504, "total_timeout", "The request was not answered within its time.", Side.EDGE), Outcome.LEFT
)
# Another endpoint is tried, so this one has no answer of its own.
CONNECT = "connect"
KINDS = (*(each.kind for each in (HEAD, BODY, READER, TUNNEL, FIRST_BYTE, IDLE, TOTAL)), CONNECT)


def waited_for(status: int, *, sent: bool, reading: bool) -> Timeout:
    """Return what an exchange has waited for; `status` 0: no answer yet, `sent`: the endpoint has all that it takes."""
    if status == SWITCHED:
        return TUNNEL
    if status:
        return IDLE if reading else READER
    return FIRST_BYTE if sent else BODY
