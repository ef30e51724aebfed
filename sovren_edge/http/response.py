"""Owns a response's head: whether it is one, how its body ends, and how it is sent on to the caller.

Must not know connections, endpoints or clocks. Rules: RFC 9110 section 7.6, RFC 9112 section 6.3.
"""

import re

import httptools

from sovren_edge.http.framing import BodyReader, ChunkedReader, SizedReader, UntilCloseReader
from sovren_edge.http.request import FIELDS_LIMIT, NO_CALLBACKS, VIA, tokens, too_many_fields, without_fields

_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t -~\x80-\xff]*)?\r\n")
_FIELD = re.compile(
    rb"\r\n(?=[cCkKpPtTuUvVxX])(connection|content-length|keep-alive|proxy-connection|te|trailer|transfer-encoding"
    rb"|upgrade|via|x-request-id|x-sovren-[!-9;-~]*):[ \t]*([^\r]*)",
    re.IGNORECASE,
)
# Framing is ours: a Connection field cannot take it out of a message.
_NOT_NOMINATED = frozenset({b"close", b"keep-alive", b"upgrade", b"content-length"})
NO_CONTENT, NOT_MODIFIED = 204, 304


class ResponseError(ValueError):
    """An endpoint's bytes that are no response head we accept."""


class ResponseHead:
    """A response head as an intermediary sees it; `kept` begins with the status line's rest."""

    keep_alive: bool = False
    length: int | None = None
    chunked: bool = False
    via: bytes = b""

    def __init__(self, status: int, minor: int) -> None:
        self.status = status
        self.minor = minor
        self.kept: list[bytes] = []

    @property
    def interim(self) -> bool:
        """Whether a further response follows (1xx)."""
        return self.status < 200  # noqa: PLR2004 - 1xx

    def reader(self, method: str) -> BodyReader:
        """Return what reads this response's body (RFC 9112 section 6.3)."""
        if method == "HEAD" or self.interim or self.status in {NO_CONTENT, NOT_MODIFIED}:
            return SizedReader(0)
        if self.chunked:
            return ChunkedReader()
        return UntilCloseReader() if self.length is None else SizedReader(self.length)


def parse_response(head: bytes) -> ResponseHead:
    """Read a head that ends with an empty line; raise ResponseError."""
    line = _LINE.match(head)
    if line is None or head.find(b"\r\n\r\n") != len(head) - 4:
        raise ResponseError("the status line is malformed, or no empty line ends the head")
    if too_many_fields(head):
        raise ResponseError(f"the head has more than {FIELDS_LIMIT} fields")
    parser = httptools.HttpResponseParser(NO_CALLBACKS)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        raise ResponseError("an upgrade that nobody asked for") from None
    except httptools.HttpParserError as error:
        raise ResponseError(str(error)) from None
    response = ResponseHead(int(line[2]), int(line[1]))
    _read_fields(response, head, line.end() - 2)
    return response


def _read_fields(response: ResponseHead, head: bytes, at: int) -> None:
    kept = response.kept
    nominated: list[bytes] = []
    end = len(head) - 4
    # The status line keeps its code and phrase, whatever the endpoint's version.
    kept.append(head[8:at])
    for match in _FIELD.finditer(head, at, end):
        name, value = match[1].lower(), match[2].rstrip(b" \t")
        if name == b"content-length":
            response.length = int(value)
            # RFC 9110 section 8.6: no length stands in these.
            if not (response.interim or response.status == NO_CONTENT):
                continue
        if name == b"transfer-encoding":
            _read_coding(response, value)
        elif name == b"connection":
            nominated.extend(tokens(value))
        elif name == b"via" and value:
            response.via = response.via + b", " + value if response.via else value
        if match.start() > at:
            kept.append(head[at : match.start()])
        at = match.end()
    if at < end:
        kept.append(head[at:end])
    response.keep_alive = b"close" not in nominated and (response.minor > 0 or b"keep-alive" in nominated)
    if nominated and (names := set(nominated) - _NOT_NOMINATED):
        kept[1:] = without_fields(kept[1:], names)


def _read_coding(response: ResponseHead, value: bytes) -> None:
    if value.lower() != b"chunked" or response.chunked or not response.minor:
        raise ResponseError("a transfer coding other than chunked, once, in HTTP/1.1")
    response.chunked = True


def forward_response(response: ResponseHead, *, request_id: bytes, chunked: bool, close: bool) -> bytes:
    """Write the head for the caller."""
    via = response.via + b", " + VIA if response.via else VIA
    parts = [b"HTTP/1.1", *response.kept, b"\r\nVia: ", via, b"\r\nX-Request-Id: ", request_id]
    if chunked:
        parts.append(b"\r\nTransfer-Encoding: chunked")
    if close:
        parts.append(b"\r\nConnection: close")
    parts.append(b"\r\n\r\n")
    return b"".join(parts)
