"""Owns what is told of an answer on its way: by a connection to a fetch, and by a fetch to whoever the answer is for.

Must not know who tells it, nor who is told.
"""

from typing import Protocol

from sovren_edge.errors import Problem
from sovren_edge.http.request import Caller, RequestHead
from sovren_edge.http.response import ResponseHead
from sovren_edge.observe.tracing import Span
from sovren_edge.relay.body import RequestBody


class Told(Protocol):
    """Whoever is told of an answer."""

    def interim(self, head: ResponseHead) -> None:
        """Take a 1xx; the final answer follows."""

    def answered(self, head: ResponseHead, now: float, *, sized: bool) -> None:
        """Take the final answer's head; a body that is not `sized` ends by a sign of its own."""

    def answered_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        """Take the final answer's head and all of its body, which have come at once."""

    def switched(self, head: ResponseHead, now: float) -> bool:
        """Take a tunnel; return whether that was asked for."""

    def body(self, pieces: list[bytes], now: float) -> None:
        """Take some of the answer's body."""

    def flush(self) -> None:
        """Send on what has come: nothing more is at hand."""

    def ended(self, now: float) -> None:
        """Take note that the answer is complete."""


class Taker(Told, Protocol):
    """Whoever an answer is for, and what was asked; one of `ended`, `failed` and `broken` is the last that it is told.

    `request_id`, `caller` and `trace` (lines of a head) are what endpoints are told of where the request came from;
    `span` is what is recorded of it, if anything. Also behind `answered_whole`, `ended` follows.
    """

    request: RequestHead
    request_body: RequestBody
    request_id: bytes
    trace: bytes
    span: Span | None
    started_at: float

    @property
    def caller(self) -> Caller:
        """Who asked."""

    def wait_until(self, deadline: float) -> None:
        """Set when what is waited for now has taken too long; NEVER where somebody else watches."""

    def sent(self, *, paused: bool) -> None:
        """Take note that an endpoint reads the request; `paused`: more slowly than it is written."""

    def failed(self, problem: Problem, now: float) -> None:
        """Take note that no answer comes."""

    def broken(self, reason: str, now: float) -> None:
        """Take note that the rest of an answer that has begun does not come."""
