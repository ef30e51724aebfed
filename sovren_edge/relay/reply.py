"""Owns an answer on its way to the caller: what is to be written of it, and what is known of it so far.

Must not know endpoints, leases or time-outs.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sovren_edge.http.framing import LAST_CHUNK, chunk
from sovren_edge.http.response import ResponseHead, forward_response

if TYPE_CHECKING:
    from sovren_edge.http.request import RequestHead
    from sovren_edge.relay.downstream import Downstream


# Up to so many bytes, a copy costs less than a longer system call.
JOIN_LIMIT = 16 * 1024


class Reply:
    """One request's answer; `status` is 0 before it begins, `sent` counts bytes of its body, times are in seconds."""

    __slots__ = (
        "_chunked", "_downstream", "_outgoing", "_persistent", "_request_id", "began_at", "body_at", "close", "sent",
        "status",
    )  # fmt: skip

    def __init__(self, downstream: "Downstream", request: "RequestHead", request_id: bytes) -> None:
        self._downstream = downstream
        self._request_id = request_id
        # HTTP/1.0 knows neither chunks nor interim answers, and is never kept open.
        self._persistent = request.minor > 0
        self.close = not (request.keep_alive and self._persistent)
        self._chunked = False
        self.status = self.sent = 0
        self.began_at = self.body_at = 0.0
        # What is to be written when the bytes that have come are read: a system call costs more than a join.
        self._outgoing: list[bytes] = []

    def explain(self, reasons: Mapping[str, object]) -> None:
        """Say more in fields of our own; before the answer begins."""
        # They stand behind the last field that is written, which is the identifier.
        fields = "".join(f"\r\nX-Sovren-{name.title()}: {reason}" for name, reason in reasons.items())
        self._request_id += fields.encode("latin-1", "replace")

    def interim(self, head: ResponseHead) -> None:
        """Pass on a 1xx, but for 100, which we have answered ourselves."""
        if self._persistent and head.status > 100:  # noqa: PLR2004 - 100 Continue
            self._outgoing.append(forward_response(head, request_id=self._request_id, chunked=False, close=False))

    def begin(self, head: ResponseHead, now: float, *, sized: bool, close: bool) -> None:
        """Pass on the head; `close` is whether the connection ends behind the answer, whatever the caller wants."""
        self.status = head.status
        self.began_at = now
        self._chunked = chunked = not sized and self._persistent
        self.close = self.close or close
        self._outgoing.append(forward_response(head, request_id=self._request_id, chunked=chunked, close=self.close))

    def whole(self, head: ResponseHead, body: bytes, now: float, *, close: bool) -> None:
        """Pass on an answer that has come at once; `close` as for `begin`."""
        if self._outgoing or len(body) > JOIN_LIMIT:
            self.begin(head, now, sized=True, close=close)
            self.body([body], now)
            self.flush()
            return
        self.status = head.status
        self.began_at = self.body_at = now
        self.sent = len(body)
        self.close = self.close or close
        self._downstream.write(
            forward_response(head, request_id=self._request_id, chunked=False, close=self.close, body=body)
        )

    def body(self, pieces: list[bytes], now: float) -> bool:
        """Pass on some of the body; return whether it was the first."""
        first = not self.sent
        if first:
            self.body_at = now
        self.sent += sum(map(len, pieces))
        self._outgoing += chunk(pieces) if self._chunked else pieces
        return first

    def flush(self) -> None:
        """Write what has come."""
        if self._outgoing:
            outgoing, self._outgoing = self._outgoing, []
            self._downstream.send(outgoing)

    def end(self) -> None:
        """Write the rest of a whole answer."""
        if self._chunked:
            self._outgoing.append(LAST_CHUNK)
        self.flush()
