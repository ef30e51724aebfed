"""The heads of answers that the gateway makes."""

from uuid import UUID

from sovren_edge.gateway.egress.faults import EgressError
from sovren_edge.gateway.egress.proxy_status import ProxyError
from sovren_edge.gateway.ledger.replays import Kept, Replay
from sovren_edge.gateway.limit.limiter import Quota
from sovren_edge.gateway.proxy.answers import problem_of, replayed_answer

ID = UUID("01900000-0000-7000-8000-000000000000")
FIELDS = [("Content-Type", "text/plain"), ("Content-Length", "4"), ("Set-Cookie", "a=b")]


def test_an_old_answer_is_given_as_it_was() -> None:
    """But for its framing, which is ours, and for what never comes back; the limit is told if anybody knows it."""
    replay = Replay(ID, Kept(201, "Made", FIELDS, b"body"))
    answer = replayed_answer(replay, Quota(100, 3, 5, 9), 0)
    assert (answer.status, answer.reason, answer.body) == (201, "Made", b"body")
    assert answer.headers["X-Gateway-RateLimit-Remaining"] == "97"
    assert answer.headers["X-Gateway-Request-Id"] == str(ID)
    assert "Set-Cookie" not in answer.headers
    assert "X-Gateway-RateLimit-Remaining" not in replayed_answer(replay, None, 0).headers


def test_what_upstream_did_is_told_without_addresses() -> None:
    """Whoever may not be called is told so, and not where the name leads."""
    error = EgressError(ProxyError.DESTINATION_IP_PROHIBITED, "x.example has the address 10.0.0.1", sent=False)
    problem = problem_of(error)
    assert (problem.status, problem.reason) == (403, "ip_prohibited")
    assert problem.detail == "x.example has the address <address>."
