"""Owns a request's head: whether it is one, what its fields mean to an intermediary, and how it is sent on.

llhttp says whether the bytes are a head; one regular expression finds the few fields that a proxy reads or drops, and
all others travel as they came, untouched. llhttp is strict here (lines end with CRLF, no folding, no space before a
colon, one length), so both readings see the same fields: tests hold them against each other.

Must not know connections, endpoints or clocks. Rules: RFC 9110 section 7.6, RFC 9112 sections 2, 3 and 6.
"""

import re
from collections.abc import Callable, Iterable

import httptools

VIA = b"1.1 sovren-edge"
# As many as other proxies take; without a limit, a head of nothing but short fields would hold the loop for long.
FIELDS_LIMIT = 100
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})

_LINE = re.compile(rb"([A-Z][A-Z-]{0,31}) ([!-~]+) HTTP/([0-9])\.([0-9])\r\n")
_FIELD = re.compile(
    rb"\r\n(?=[cCeEfFhHkKpPtTuUvVxX])(connection|content-length|expect|forwarded|host|keep-alive|proxy-authorization"
    rb"|proxy-connection|te|trailer|transfer-encoding|upgrade|via|x[-_]forwarded[-_][!-9;-~]+|x[-_]real[-_]ip"
    rb"|x-request-id|x[-_]sovren[-_][!-9;-~]*):[ \t]*([^\r]*)",
    re.IGNORECASE,
)
# Many servers read an underscore as a hyphen: what we must not let in by one spelling does not come in by the other.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
# No user stands before the host: RFC 9110 section 4.2.4 has such a target treated as an error.
_ABSOLUTE = re.compile(rb"https?://([^/?#@]+)((?:[/?][^#]*)?)", re.IGNORECASE)
_TOKEN = re.compile(rb"[^\t ,]+")
# Framing and routing are ours: a Connection field cannot take them out of a message.
_NOT_NOMINATED = frozenset({b"close", b"keep-alive", b"upgrade", b"te", b"host", b"content-length"})


class HeadError(ValueError):
    """Bytes that are no request head we accept; `status` is what its sender is told."""

    def __init__(self, reason: str, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.status = status


class RequestHead:
    """A request head as an intermediary sees it; `kept` are the raw field lines that travel on, each with its CRLF.

    What most requests do not have stands on the class: a head is made for every request.
    """

    # The target without its query.
    path: str = ""
    host: bytes = b""
    hosts: int = 0
    length: int = 0
    chunked: bool = False
    expects: bool = False
    request_id: str = ""
    forwarded_for: bytes = b""
    forwarded: frozenset[bytes] = frozenset()
    via: bytes = b""
    nominated: tuple[bytes, ...] = ()

    def __init__(self, method: str, target: bytes, minor: int) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.kept: list[bytes] = []

    @property
    def keep_alive(self) -> bool:
        """Whether the caller lets its connection serve further requests (RFC 9112 section 9.3)."""
        return b"close" not in self.nominated and (self.minor > 0 or b"keep-alive" in self.nominated)

    @property
    def bodiless(self) -> bool:
        """Whether no body follows."""
        return not self.length and not self.chunked


class _NoCallbacks:
    """llhttp is asked for its verdict only; `on_headers_complete` and the others are left out."""


NO_CALLBACKS = _NoCallbacks()


def parse_request(head: bytes, *, trusted: bool) -> RequestHead:
    """Read a head that ends with an empty line; raise HeadError.

    From an address that is `trusted`, forwarded fields are believed and added to; otherwise they are dropped.
    """
    line = _LINE.match(head)
    if line is None or head.find(b"\r\n\r\n") != len(head) - 4:
        raise HeadError("malformed_request", "The request line is not METHOD, target and HTTP/1.1.")
    if line[3] != b"1":
        raise HeadError("unsupported_version", "Only HTTP/1.0 and HTTP/1.1 are spoken here.", 505)
    if too_many_fields(head):
        raise HeadError("head_too_large", f"A request's head has at most {FIELDS_LIMIT} fields.", 431)
    parser = httptools.HttpRequestParser(NO_CALLBACKS)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # an offer to switch protocols that is not taken up
    except httptools.HttpParserInvalidMethodError:
        raise HeadError("unknown_method", "The request's method is not known.", 501) from None
    except httptools.HttpParserError as error:
        raise HeadError("malformed_request", f"The request's head is malformed: {error}.") from None
    if line[1] == b"CONNECT":
        raise HeadError("unsupported_method", "CONNECT is not offered here.", 501)
    request = RequestHead(line[1].decode(), line[2], int(line[4]))
    _read_fields(request, head, line.end() - 2, trusted=trusted)
    _check_target(request)
    request.path = request.target.partition(b"?")[0].decode()
    return request


def _read_fields(request: RequestHead, head: bytes, at: int, *, trusted: bool) -> None:
    """Sort the fields into those that are read, those that are dropped and those that travel on."""
    end = len(head) - 4
    for match in _FIELD.finditer(head, at, end):
        name = match[1].lower()
        read = _READERS.get(name)
        if read is not None:
            travels = read(request, match[2].rstrip(b" \t"), trusted)
        else:
            travels = trusted and name.startswith((b"x-forwarded-", b"forwarded", b"x-real-ip"))
            if travels:
                request.forwarded |= {name}
        if travels:
            continue
        if match.start() > at:
            request.kept.append(head[at : match.start()])
        at = match.end()
    if at < end:
        request.kept.append(head[at:end])
    if request.hosts > 1 or (not request.hosts and request.minor):
        raise HeadError("malformed_request", "A request names its Host exactly once.")
    if request.nominated and (names := set(request.nominated) - _NOT_NOMINATED):
        request.kept = without_fields(request.kept, names)
        # What is dropped is no longer known from before: forward_request says it anew.
        request.forwarded -= names


def _read_length(request: RequestHead, value: bytes, _trusted: bool) -> bool:  # noqa: FBT001 - one form for all readers
    request.length = int(value)
    return True


def _read_host(request: RequestHead, value: bytes, _trusted: bool) -> bool:  # noqa: FBT001 - see above
    request.hosts += 1
    request.host = value
    return False


def _read_connection(request: RequestHead, value: bytes, _trusted: bool) -> bool:  # noqa: FBT001 - see above
    request.nominated += tuple(tokens(value))
    return False


def _read_request_id(request: RequestHead, value: bytes, _trusted: bool) -> bool:  # noqa: FBT001 - see above
    if _REQUEST_ID.fullmatch(value):
        request.request_id = value.decode()
    return False


def _read_via(request: RequestHead, value: bytes, _trusted: bool) -> bool:  # noqa: FBT001 - see above
    if value:
        request.via = request.via + b", " + value if request.via else value
    return False


def _read_forwarded_for(request: RequestHead, value: bytes, trusted: bool) -> bool:  # noqa: FBT001 - see above
    if trusted and value:
        request.forwarded_for = request.forwarded_for + b", " + value if request.forwarded_for else value
    return False


def _read_expect(request: RequestHead, value: bytes, _trusted: bool) -> bool:  # noqa: FBT001 - see above
    if value.lower() != b"100-continue":
        raise HeadError("expectation_failed", "The only expectation met here is 100-continue.", 417)
    request.expects = request.minor > 0
    return False


def _read_coding(request: RequestHead, value: bytes, _trusted: bool) -> bool:  # noqa: FBT001 - see above
    if value.lower() != b"chunked" or not request.minor:
        raise HeadError("unsupported_coding", "The only transfer coding taken here is chunked, in HTTP/1.1.", 501)
    request.chunked = True
    return False


# What is read of a field, and whether it travels on as it came. Fields of _FIELD that are missing here are dropped.
_READERS: dict[bytes, Callable[[RequestHead, bytes, bool], bool]] = {
    b"connection": _read_connection,
    b"content-length": _read_length,
    b"expect": _read_expect,
    b"host": _read_host,
    b"transfer-encoding": _read_coding,
    b"via": _read_via,
    b"x-forwarded-for": _read_forwarded_for,
    b"x-request-id": _read_request_id,
}


def too_many_fields(head: bytes) -> bool:
    """Whether a whole head has more fields than are taken; beside them it has a first line and an empty one."""
    return head.count(b"\r\n") > FIELDS_LIMIT + 2


def tokens(value: bytes) -> list[bytes]:
    """Return the tokens of a list, in lower case."""
    return _TOKEN.findall(value.lower())


def without_fields(kept: Iterable[bytes], names: set[bytes]) -> list[bytes]:
    """Return raw field lines, each behind its CRLF, but for those that the Connection field nominates."""
    lines = (line for run in kept for line in run.split(b"\r\n")[1:])
    return [b"\r\n" + line for line in lines if line.partition(b":")[0].lower() not in names]


def _check_target(request: RequestHead) -> None:
    target = request.target
    if target.startswith(b"/") or (target == b"*" and request.method == "OPTIONS"):
        if b"#" in target:
            raise HeadError("malformed_request", "A request's target has no fragment.")
        return
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise HeadError("malformed_request", "The request's target is neither a path nor an http URL.")
    # RFC 9112 section 3.2.2: the authority of an absolute target replaces the Host field.
    request.host = absolute[1]
    request.target = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]


def forward_request(
    request: RequestHead, *, peer: bytes, scheme: bytes, endpoint: bytes, body_size: int | None, request_id: bytes
) -> bytes:
    """Write the head for an endpoint; `body_size` None sends a chunked body."""
    chain = request.forwarded_for + b", " + peer if request.forwarded_for else peer
    parts = [
        request.method.encode(), b" ", request.target, b" HTTP/1.1\r\nHost: ", request.host or endpoint, *request.kept,
        b"\r\nX-Forwarded-For: ", chain,
    ]  # fmt: skip
    if b"x-forwarded-proto" not in request.forwarded:
        parts += (b"\r\nX-Forwarded-Proto: ", scheme)
    if request.host and b"x-forwarded-host" not in request.forwarded:
        parts += (b"\r\nX-Forwarded-Host: ", request.host)
    parts += (
        b"\r\nVia: ", request.via + b", " + VIA if request.via else VIA, b"\r\nX-Request-Id: ", request_id,
    )  # fmt: skip
    if body_size is None:
        parts.append(b"\r\nTransfer-Encoding: chunked")
    elif body_size and not request.length:
        parts.append(b"\r\nContent-Length: %d" % body_size)
    parts.append(b"\r\n\r\n")
    return b"".join(parts)
