"""Owns what is counted and logged of a request when it is over.

Must not know how it was served.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from sovren_edge.http.answer import Answer
from sovren_edge.http.request import RequestHead
from sovren_edge.observe.log import Access
from sovren_edge.observe.stats import CALLER_LEFT, REDIRECT, SERVER_ERROR
from sovren_edge.observe.trace_context import trace_id_of
from sovren_edge.observe.tracing import Span

if TYPE_CHECKING:
    from sovren_edge.relay.relay import Door

COMPLETE, LEFT = "complete", "caller left"


def error_of(status: int, ended: str) -> str:
    """Return how a request failed, in a word, if it did; a caller that leaves is no failure of ours."""
    if status >= SERVER_ERROR:
        return str(status)
    return "broken" if ended not in {COMPLETE, LEFT} and status < REDIRECT else ""


class Journal:
    """Writes each request once; `timestamp` writes the time of day, `log` is None where requests are not logged."""

    def __init__(self, timestamp: Callable[[], str], log: Callable[[Access], None] | None) -> None:
        self.timestamp = timestamp
        self._log = log

    def finished(  # noqa: PLR0917 - one call a request: naming fifteen arguments costs a third of a microsecond
        self, door: "Door", client: str, request: RequestHead, request_id: bytes, ended: str, status: int,
        endpoint: str, attempts: int, queue_s: float, first_s: float, duration_s: float, received: int, sent: int,
        trace: bytes, span: Span | None,
    ) -> None:  # fmt: skip
        """Write a request that an exchange has served; times in seconds, `status` 0 before an answer began."""
        status = status or CALLER_LEFT
        stats = door.stats
        stats.count(request.method, status, duration_s)
        if stats.speech and request.method == "POST":
            stats.count_speech(status, duration_s, whole=ended == COMPLETE)
        if self._log is not None:
            self._log({
                "timestamp": self.timestamp(), "event": "request", "listener": door.name, "client": client,
                "method": request.method, "path": request.path, "status": status, "request_id": request_id.decode(),
                "endpoint": endpoint, "attempts": attempts, "queue_us": int(queue_s * 1e6),
                "ttfb_us": int(first_s * 1e6), "duration_us": int(duration_s * 1e6), "received": received,
                "sent": sent, "ended": ended, "trace_id": trace_id_of(trace),
            })  # fmt: skip
        if span is not None:
            span.attributes = {
                "sovren.listener": door.name, "sovren.request_id": request_id.decode(), "sovren.queue_s": queue_s,
                "sovren.attempts": attempts, "sovren.ttfa_s": first_s, "sovren.ended": ended,
                "sovren.endpoint": endpoint,
                "http.request.method": request.method, "http.response.status_code": status, "url.path": request.path,
                "url.scheme": door.scheme.decode(), "client.address": client, "http.request.body.size": received,
                "http.response.body.size": sent,
            }  # fmt: skip
            span.end(span.began_at + duration_s, error_of(status, ended))

    def answered(
        self,
        door: "Door",
        client: str,
        request_id: str,
        answer: Answer,
        ended: str,
        *,
        method: str = "-",
        path: str = "-",
    ) -> None:
        """Log what is answered without an exchange: a page, or bytes that are no request."""
        if self._log is not None:
            self._log({
                "timestamp": self.timestamp(), "event": "request", "listener": door.name, "client": client,
                "method": method, "path": path, "status": answer.status, "request_id": request_id, "endpoint": "",
                "attempts": 0, "queue_us": 0, "ttfb_us": 0, "duration_us": 0, "received": 0,
                "sent": len(answer.body), "ended": ended, "trace_id": "",
            })  # fmt: skip
