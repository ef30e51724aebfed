"""Owns a request's body between the caller and the endpoint: kept whole while it is small, passed on when it is not.

Must not know connections; it says what is to be written.
"""

from sovren_edge.http.framing import LAST_CHUNK, chunk
from sovren_edge.http.request import RequestHead


class RequestBody:
    """`kept` while it can be sent again, `streaming` once it was passed on and forgotten, `complete` at its end."""

    __slots__ = ("_chunked", "_length", "_limit", "_pieces", "complete", "kept", "received", "streaming")

    def __init__(self, request: RequestHead, limit: int) -> None:
        self._chunked = request.chunked
        self._length = request.length
        self._limit = limit
        self._pieces: list[bytes] = []
        self.received = 0
        self.kept = request.chunked or request.length <= limit
        self.streaming = False
        self.complete = request.bodiless

    def open(self) -> None:
        """Begin to pass on whatever comes, without an end: the connection is a tunnel."""
        self.streaming = True
        self.complete = self._chunked = False

    @property
    def size(self) -> int | None:
        """Bytes in all; None while nobody knows."""
        if not self._chunked:
            return self._length
        return self.received if self.complete else None

    @property
    def whole(self) -> bytes:
        """The body, where all of it is kept; otherwise nothing."""
        return b"".join(self._pieces) if self.kept and self.complete else b""

    def take(self, pieces: list[bytes]) -> list[bytes]:
        """Take what came; return what is to be written now."""
        self.received += sum(map(len, pieces))
        if self.streaming:
            return chunk(pieces) if self._chunked else pieces
        self._pieces += pieces
        if self.received > self._limit:
            self.kept = False
        return []

    def take_whole(self, body: bytes) -> None:
        """Take a small body that came at once."""
        self.received = len(body)
        self._pieces = [body]
        self.complete = True

    def begin(self) -> list[bytes]:
        """Return what is to be written behind the request's head; a kept body can be begun again."""
        if self.complete and self.kept:
            return self._pieces
        self.streaming = True
        pieces, self._pieces = self._pieces, []
        return chunk(pieces) if self._chunked and pieces and not self.complete else pieces

    def end(self) -> list[bytes]:
        """Take note of the end; return what is to be written now."""
        self.complete = True
        return [LAST_CHUNK] if self.streaming and self._chunked else []


def made_body(request: RequestHead, body: bytes) -> RequestBody:
    """Return a body that nobody has sent: it is complete, and kept whatever its size."""
    made = RequestBody(request, len(body))
    made.take_whole(body)
    return made


# Most requests have none, and one that is complete never changes.
NO_BODY = RequestBody(RequestHead("GET", 1, keep_alive=True), 0)
