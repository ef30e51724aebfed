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
_MEDIA_TYPE = re.compile(rb"\r\nContent-Type:[ \t]*([^\r]*)", re.IGNORECASE)
_CONTENT_CODING = re.compile(rb"\r\nContent-Encoding:[ \t]*(?!identity)[^\r]", re.IGNORECASE)
_NOT_KEPT = re.compile(
    rb"\r\n(?:Cache-Control:[^\r]*(?:no-store|private)|Set-Cookie:|Vary:[^\r]*(?:\*|user-agent|host|referer))",
    re.IGNORECASE,
)
# Framing is ours: a Connection field cannot take it out of a message.
_NOT_NOMINATED = frozenset({b"close", b"keep-alive", b"upgrade", b"content-length"})
SWITCHED, OK, NO_CONTENT, NOT_MODIFIED = 101, 200, 204, 304


class ResponseError(ValueError):
    """An endpoint's bytes that are no response head we accept."""


class ResponseHead:
    """A response head as an intermediary sees it: a value, so that one may stand for all that have the same bytes."""

    keep_alive: bool = False
    length: int | None = None
    chunked: bool = False
    # The protocol that the connection has been switched to.
    upgrade: bytes = b""
    # The head as it is sent on, up to the value of X-Request-Id.
    start: bytes = b""

    def __init__(self, status: int, minor: int) -> None:
        self.status = status
        self.minor = minor
        # Whether a further response follows.
        self.interim = status < OK and status != SWITCHED
        self.may_have_body = status >= OK and status not in {NO_CONTENT, NOT_MODIFIED}

    def sized(self, method: str) -> bool:
        """Whether a body of the response's length follows, and not one that ends in another way, or none."""
        return self.length is not None and method != "HEAD" and self.may_have_body

    def reader(self, method: str) -> BodyReader:
        """Return what reads this response's body (RFC 9112 section 6.3)."""
        if method == "HEAD" or not self.may_have_body:
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
    response = ResponseHead(int(line[2]), int(line[1]))
    parser = httptools.HttpResponseParser(NO_CALLBACKS)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # whether somebody asked for it, the exchange knows
    except httptools.HttpParserError as error:
        raise ResponseError(str(error)) from None
    _read_fields(response, head, line.end() - 2)
    return response


def _read_fields(response: ResponseHead, head: bytes, at: int) -> None:
    fields = _Fields()
    end = len(head) - 4
    # The status line keeps its code and phrase, whatever the endpoint's version.
    kept = [head[8:at]]
    for match in _FIELD.finditer(head, at, end):
        name, value = match[1].lower(), match[2].rstrip(b" \t")
        if name == b"content-length":
            response.length = int(value)
            # RFC 9110 section 8.6: no length stands in these.
            if response.status >= OK and response.status != NO_CONTENT:
                continue
        else:
            _read(name, value, response, fields)
        start, stop = match.span()
        if start > at:
            kept.append(head[at:start])
        at = stop
    if at < end:
        kept.append(head[at:end])
    nominated = fields.nominated
    response.keep_alive = b"close" not in nominated and (response.minor > 0 or b"keep-alive" in nominated)
    if nominated and (names := set(nominated) - _NOT_NOMINATED):
        kept[1:] = without_fields(kept[1:], names)
    if response.status == SWITCHED:
        kept += (b"\r\nConnection: Upgrade\r\nUpgrade: ", response.upgrade)
    via = fields.via + b", " + VIA if fields.via else VIA
    response.start = b"".join((b"HTTP/1.1", *kept, b"\r\nVia: ", via, b"\r\nX-Request-Id: "))


class _Fields:
    """What is read of the fields on the way to a ResponseHead."""

    via: bytes = b""
    nominated: tuple[bytes, ...] = ()


def _read(name: bytes, value: bytes, response: ResponseHead, fields: _Fields) -> None:
    if name == b"transfer-encoding":
        _read_coding(response, value)
    elif name == b"connection":
        fields.nominated += tuple(tokens(value))
        if len(fields.nominated) > FIELDS_LIMIT:
            raise ResponseError(f"a Connection of more than {FIELDS_LIMIT} names")
    elif name == b"upgrade":
        response.upgrade = value
    elif name == b"via" and value:
        fields.via = fields.via + b", " + value if fields.via else value


def _read_coding(response: ResponseHead, value: bytes) -> None:
    if value.lower() != b"chunked" or response.chunked or not response.minor:
        raise ResponseError("a transfer coding other than chunked, once, in HTTP/1.1")
    response.chunked = True


def media_type(response: ResponseHead) -> bytes:
    """Return what a response's Content-Type says, empty where it has none, or its body is in some coding."""
    found = _MEDIA_TYPE.search(response.start)
    return b"" if found is None or _CONTENT_CODING.search(response.start) else found[1].rstrip(b" \t")


def may_be_kept(response: ResponseHead) -> bool:
    """Whether a complete answer may be given to an equal request later: nothing is against it (RFC 9111 section 3)."""
    framed = response.length is not None or response.chunked
    return response.status == OK and framed and _NOT_KEPT.search(response.start) is None


def of_age(response: ResponseHead, length: int, age_s: int) -> ResponseHead:
    """Return the head of a kept answer as it is given again, its body's length and its age in it."""
    line, fields = response.start.split(b"\r\n", 1)
    again = ResponseHead(response.status, response.minor)
    again.keep_alive, again.length = True, length
    sized = b"" if response.length is not None else b"\r\nContent-Length: %d" % length
    again.start = b"%s\r\nAge: %d%s\r\n%s" % (line, age_s, sized, fields)
    return again


def forward_response(
    response: ResponseHead, *, request_id: bytes, chunked: bool, close: bool, body: bytes = b""
) -> bytes:
    """Write the head for the caller, and what there is of the body behind it."""
    framing = b"\r\nTransfer-Encoding: chunked" if chunked else b""
    ending = b"\r\nConnection: close\r\n\r\n" if close else b"\r\n\r\n"
    return b"".join((response.start, request_id, framing, ending, body))
