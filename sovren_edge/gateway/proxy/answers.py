"""Owns the heads of answers: what stands on those that we make, and on those that came from upstream.

Must not know why an answer is given, nor how its body is sent.
"""

from http import HTTPStatus

from aiohttp.web import Response, StreamResponse
from multidict import CIMultiDict

from sovren_edge.errors import EdgeError, Problem, Side
from sovren_edge.gateway.egress.client import Answer
from sovren_edge.gateway.egress.faults import EgressError
from sovren_edge.gateway.egress.fields import Field, from_upstream
from sovren_edge.gateway.egress.proxy_status import ProxyError, failed, received, without_addresses
from sovren_edge.gateway.ledger.replays import Replay
from sovren_edge.gateway.limit.limiter import Quota
from sovren_edge.gateway.limit.limits_told import forwarded_limit_fields, own_limit_fields

REQUEST_ID = "X-Gateway-Request-Id"
# A HEAD's answer has a length and no body; its caller, who sent a POST, would wait for one.
LENGTH, UPSTREAM_LENGTH = "content-length", "X-Gateway-Content-Length"
REPLAYED = ("Idempotency-Replayed", "true")
BODILESS = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class FailedError(EdgeError):
    """A request that ends with an answer of ours; `error` is its word in Proxy-Status."""

    def __init__(self, problem: Problem, error: ProxyError) -> None:
        super().__init__(
            problem.status,
            problem.reason,
            problem.detail,
            side=problem.side,
            retry_after_s=problem.retry_after_s,
        )
        self.error = error


def own_answer(failure: EdgeError, request_id: str, quota: Quota | None, now_us: int) -> Response:
    """Make the answer to a request that was refused or failed."""
    problem = failure.problem
    error, details = _told(failure)
    headers = CIMultiDict(problem.headers)
    headers.extend([failed(error, details)])
    if request_id:
        headers[REQUEST_ID] = request_id
    if quota is not None:
        headers.extend(own_limit_fields(quota, now_us))
    return Response(status=problem.status, headers=headers, body=problem.body(request_id))


def forwarded_answer(answer: Answer, method: str, request_id: str, quota: Quota, now_us: int) -> StreamResponse:
    """Make the head of an answer that came from upstream; its body follows, if it has one."""
    fields = _reframed(from_upstream(answer.fields), bodiless=method == "HEAD" or answer.status in BODILESS)
    headers = CIMultiDict([*fields, received(answer.status), (REQUEST_ID, request_id)])
    headers.extend(forwarded_limit_fields(quota, now_us))
    return StreamResponse(status=answer.status, reason=answer.reason, headers=headers)


def replayed_answer(replay: Replay, quota: Quota | None, now_us: int) -> Response:
    """Make an answer that was given before, to the same idempotency key."""
    kept = replay.answer
    fields = _reframed(from_upstream(kept.fields), bodiless=True)
    headers = CIMultiDict([*fields, received(kept.status), (REQUEST_ID, str(replay.request_id)), REPLAYED])
    if quota is not None:
        headers.extend(forwarded_limit_fields(quota, now_us))
    return Response(status=kept.status, reason=kept.reason, headers=headers, body=kept.body)


def problem_of(error: EgressError) -> Problem:
    """Return what a caller is told of a request that got no answer."""
    prohibited = error.reason is ProxyError.DESTINATION_IP_PROHIBITED
    reason = "ip_prohibited" if prohibited else str(error.reason)
    side = Side.CALLER if prohibited else Side.UPSTREAM
    return Problem(error.status, reason, f"{without_addresses(error.detail)}.", side)


def _told(failure: EdgeError) -> tuple[ProxyError, str]:
    if isinstance(failure, FailedError):
        return failure.error, ""
    if failure.problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ProxyError.PROXY_INTERNAL_ERROR, failure.problem.reason
    return ProxyError.HTTP_REQUEST_DENIED, failure.problem.reason


def _reframed(fields: list[Field], *, bodiless: bool) -> list[Field]:
    if not bodiless:
        return fields
    return [(UPSTREAM_LENGTH if name.lower() == LENGTH else name, value) for name, value in fields]
