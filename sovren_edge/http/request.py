"""Owns a request's head: whether it is one, what its fields mean to an intermediary, and how it is sent on.

llhttp says whether the bytes are a head; one regular expression finds the few fields that a proxy reads or drops, and
all others travel as they came, untouched. llhttp is strict here (lines end with CRLF, no folding, no space before a
colon, one length), so both readings see the same fields: tests hold them against each other.

Must not know connections, endpoints or clocks. Rules: RFC 9110 section 7.6, RFC 9112 sections 2, 3 and 6.
"""

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from types import MappingProxyType

import httptools

from sovren_edge.observe.trace_context import TraceContext, field_lines, read_traceparent

VIA = b"1.1 sovren-edge"
# As many as other proxies take; without a limit, a head of nothing but short fields would hold the loop for long.
FIELDS_LIMIT = 100
TARGET_LIMIT = 8192
LENGTH_DIGITS = 18
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})

_LINE = re.compile(rb"([A-Z][A-Z-]{0,31}) ([!-~]+) HTTP/([0-9])\.([0-9])\r\n")
_FIELD = re.compile(
    rb"\r\n(?=[cCeEfFhHkKpPtTuUvVxX]|[aA][uU])(authorization|connection|content[-_]length|expect|forwarded|host|keep[-_]alive"
    rb"|proxy[-_]authorization|proxy[-_]connection|te|traceparent|tracestate|trailer|transfer[-_]encoding|upgrade|via"
    rb"|x[-_]forwarded[-_][!-9;-~]+|x[-_]real[-_]ip|x[-_]request[-_]id|x[-_]sovren[-_][!-9;-~]*):[ \t]*([^\r]*)",
    re.IGNORECASE,
)
# Many servers read an underscore as a hyphen: what we must not let in by one spelling does not come in by the other.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
# A name or an address, and maybe a port. No user stands before it (RFC 9110 section 4.2.4); the delimiters and escapes
# that RFC 3986 would allow are in no name of DNS, and read in many ways.
_AUTHORITY = rb"(?:[0-9A-Za-z._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?"
_HOST = re.compile(rb"(?:" + _AUTHORITY + rb")?")
_ABSOLUTE = re.compile(rb"https?://(" + _AUTHORITY + rb")((?:[/?][^#]*)?)", re.IGNORECASE)
# What there may be of a first line that is still coming.
_BEGINNING = re.compile(rb"(?:[A-Z][A-Z-]{0,31}(?: [!-~]*(?: [HTP/0-9.]{0,8}\r?)?)?)?")
_LINE_FEED_ALONE = re.compile(rb"(?<!\r)\n")
_FIRST_LINE_LIMIT = TARGET_LIMIT + 64
_LENGTH = re.compile(rb"\r\ncontent[-_]length:[^\r]*", re.IGNORECASE)
_TOKEN = re.compile(rb"[^\t ,]+")
# Framing, routing and tracing are ours: a Connection field cannot take them out of a message.
_NOT_NOMINATED = frozenset(
    {b"close", b"keep-alive", b"upgrade", b"te", b"host", b"content-length", b"traceparent", b"tracestate"}
)


class HeadError(ValueError):
    """Bytes that are no request head we accept; `status` is what its sender is told."""

    def __init__(self, reason: str, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.status = status


class RequestHead:
    """A request head as an intermediary sees it: a value, so that one may stand for all who send the same bytes.

    `target` is as it is sent on, `path` is the same without its query. What most do not have stands on the class.
    """

    target: bytes = b""
    path: str = ""
    host: bytes = b""
    length: int = 0
    chunked: bool = False
    expects: bool = False
    request_id: bytes = b""
    # By whose authority it is sent; it travels on as it came.
    authorization: bytes = b""
    # The protocol that the caller asks to switch to.
    upgrade: bytes = b""
    # Whether no body follows.
    bodiless: bool = True
    # The head as it is sent on, up to the place in X-Forwarded-For where the caller's address is added.
    start: bytes = b""
    # Whether somebody trusted has said already by which scheme the request came.
    scheme_known: bool = False
    # What X-Sovren-* fields say, by their names in lower case; they are for us and go no further.
    told: Mapping[bytes, bytes] = MappingProxyType({})
    # The trace that it belongs to, if it says so; what its systems add to that; both as they came, as lines of a head.
    context: TraceContext | None = None
    state: str = ""
    trace: bytes = b""
    # What equal requests have in common: see `likeness`.
    alike: bytes = b""
    # Whether it came from an address that is believed.
    trusted: bool = False

    def __init__(self, method: str, minor: int, *, keep_alive: bool) -> None:
        self.method = method
        self.minor = minor
        # Whether the caller lets its connection serve further requests (RFC 9112 section 9.3).
        self.keep_alive = keep_alive


class Caller:
    """What is added to each request of one connection, ready to be written."""

    __slots__ = ("address", "described", "name")

    def __init__(self, address: bytes, scheme: bytes) -> None:
        self.address = address
        self.name = address.decode()
        self.described = address + b"\r\nX-Forwarded-Proto: " + scheme


class _Fields:
    """What a head's fields say; `kept` are the raw lines that travel on, each behind its CRLF."""

    hosts: int = 0
    host: bytes = b""
    length: int = 0
    chunked: bool = False
    expects: bool = False
    request_id: bytes = b""
    authorization: bytes = b""
    upgrade: bytes = b""
    via: bytes = b""
    traceparent: bytes = b""
    tracestate: bytes = b""
    nominated: tuple[bytes, ...] = ()
    forwarded_for: bytes = b""
    forwarded: frozenset[bytes] = frozenset()
    told: Mapping[bytes, bytes] = MappingProxyType({})

    def __init__(self, minor: int, *, trusted: bool) -> None:
        self.minor = minor
        self.trusted = trusted
        self.kept: list[bytes] = []


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
    if len(line[2]) > TARGET_LIMIT:
        raise _target_too_long()
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
    fields = _read_fields(head, line.end() - 2, int(line[4]), trusted=trusted)
    host, target = _find_target(line[1], line[2], fields.host)
    return _make_head(line[1], host, target, fields)


def _make_head(method: bytes, host: bytes, target: bytes, fields: _Fields) -> RequestHead:
    stays = b"close" not in fields.nominated and (fields.minor > 0 or b"keep-alive" in fields.nominated)
    request = RequestHead(method.decode(), fields.minor, keep_alive=stays)
    request.target, request.path = target, target.partition(b"?")[0].decode()
    request.host, request.request_id, request.expects = host, fields.request_id, fields.expects
    request.length, request.chunked = fields.length, fields.chunked
    request.bodiless = not fields.length and not fields.chunked
    if fields.upgrade and fields.minor and request.bodiless and b"upgrade" in fields.nominated:
        request.upgrade = fields.upgrade
    request.told, request.trusted, request.authorization = fields.told, fields.trusted, fields.authorization
    request.scheme_known = b"x-forwarded-proto" in fields.forwarded
    request.context = read_traceparent(fields.traceparent.decode("latin-1"))
    if request.context is not None:
        request.state = fields.tracestate.decode("latin-1")
        request.trace = field_lines(fields.traceparent, fields.tracestate)
    request.start = _start(request, fields)
    return request


def _start(request: RequestHead, fields: _Fields) -> bytes:
    parts = [request.method.encode(), b" ", request.target, b" HTTP/1.1"]
    if request.host:
        parts += (b"\r\nHost: ", request.host)
    parts += (*fields.kept, b"\r\nVia: ", fields.via + b", " + VIA if fields.via else VIA)
    if request.host and b"x-forwarded-host" not in fields.forwarded:
        parts += (b"\r\nX-Forwarded-Host: ", request.host)
    if request.upgrade:
        parts += (b"\r\nConnection: Upgrade\r\nUpgrade: ", request.upgrade)
    parts += (b"\r\nX-Forwarded-For: ", fields.forwarded_for + b", " if fields.forwarded_for else b"")
    return b"".join(parts)


def _read_fields(head: bytes, at: int, minor: int, *, trusted: bool) -> _Fields:
    """Sort the fields into those that are read, those that are dropped and those that travel on."""
    fields = _Fields(minor, trusted=trusted)
    kept = fields.kept
    end = len(head) - 4
    for match in _FIELD.finditer(head, at, end):
        name = match[1].lower()
        read = _READERS.get(name)
        if read is not None:
            read(fields, match[2].rstrip(b" \t"))
        elif name in _TRAVELLERS:
            _TRAVELLERS[name](fields, match[2].rstrip(b" \t"))
            continue
        elif name.startswith(b"x-sovren-"):
            fields.told = {**fields.told, name: match[2].rstrip(b" \t")}
        elif trusted and name.startswith((b"x-forwarded-", b"forwarded", b"x-real-ip")):
            fields.forwarded |= {name}
            continue
        start, stop = match.span()
        if start > at:
            kept.append(head[at:start])
        at = stop
    if at < end:
        kept.append(head[at:end])
    if fields.hosts > 1 or (not fields.hosts and minor):
        raise HeadError("malformed_request", "A request names its Host exactly once.")
    if fields.nominated and (names := set(fields.nominated) - _NOT_NOMINATED):
        fields.kept = without_fields(kept, names)
        # What is dropped is no longer known from before: it is said anew.
        fields.forwarded -= names
    return fields


def _read_length(fields: _Fields, value: bytes) -> None:
    # Servers refuse longer numbers, whether of zeros or not, or read them as other ones.
    if len(value) > LENGTH_DIGITS:
        raise HeadError("malformed_request", f"A Content-Length has at most {LENGTH_DIGITS} digits.")
    fields.length = int(value)


def _read_authorization(fields: _Fields, value: bytes) -> None:
    # Two of them name nobody.
    fields.authorization = fields.authorization + b", " + value if fields.authorization else value


def _read_host(fields: _Fields, value: bytes) -> None:
    if _HOST.fullmatch(value) is None:
        raise HeadError("malformed_request", "A Host is a name or an address, and maybe a port.")
    fields.hosts += 1
    fields.host = value


def _read_connection(fields: _Fields, value: bytes) -> None:
    fields.nominated += tuple(tokens(value))
    if len(fields.nominated) > FIELDS_LIMIT:
        raise HeadError("head_too_large", f"A Connection has at most {FIELDS_LIMIT} names.", 431)


def _read_request_id(fields: _Fields, value: bytes) -> None:
    if _REQUEST_ID.fullmatch(value):
        fields.request_id = value


def _read_upgrade(fields: _Fields, value: bytes) -> None:
    # Other protocols are not offered on: h2c, for one, would let its requests pass us by unread.
    if value.lower() == b"websocket":
        fields.upgrade = value


def _read_via(fields: _Fields, value: bytes) -> None:
    if value:
        fields.via = fields.via + b", " + value if fields.via else value


def _read_traceparent(fields: _Fields, value: bytes) -> None:
    fields.traceparent = fields.traceparent + b", " + value if fields.traceparent else value


def _read_tracestate(fields: _Fields, value: bytes) -> None:
    fields.tracestate = fields.tracestate + b"," + value if fields.tracestate else value


def _read_forwarded_for(fields: _Fields, value: bytes) -> None:
    if fields.trusted and value:
        fields.forwarded_for = fields.forwarded_for + b", " + value if fields.forwarded_for else value


def _read_expect(fields: _Fields, value: bytes) -> None:
    if value.lower() != b"100-continue":
        raise HeadError("expectation_failed", "The only expectation met here is 100-continue.", 417)
    fields.expects = fields.minor > 0


def _read_coding(fields: _Fields, value: bytes) -> None:
    if value.lower() != b"chunked" or not fields.minor:
        raise HeadError("unsupported_coding", "The only transfer coding taken here is chunked, in HTTP/1.1.", 501)
    fields.chunked = True


# These travel on as they came.
_TRAVELLERS: dict[bytes, Callable[[_Fields, bytes], None]] = {
    b"authorization": _read_authorization,
    b"content-length": _read_length,
}
# None of these travels on as it came. Fields of _FIELD that are missing here are dropped unread, but for the length and
# for what somebody trusted says of where a request came from.
_READERS: dict[bytes, Callable[[_Fields, bytes], None]] = {
    b"connection": _read_connection,
    b"expect": _read_expect,
    b"host": _read_host,
    b"traceparent": _read_traceparent,
    b"tracestate": _read_tracestate,
    b"transfer-encoding": _read_coding,
    b"upgrade": _read_upgrade,
    b"via": _read_via,
    b"x-forwarded-for": _read_forwarded_for,
    b"x-request-id": _read_request_id,
}


def too_many_fields(head: bytes) -> bool:
    """Whether a whole head has more fields than are taken; beside them it has a first line and an empty one."""
    return head.count(b"\r\n") > FIELDS_LIMIT + 2


def tokens(value: bytes) -> list[bytes]:
    """Return the tokens of a list, in lower case: of a very long one, so many that it is seen to be too long."""
    return [match[0] for match in islice(_TOKEN.finditer(value.lower()), FIELDS_LIMIT + 1)]


def without_fields(kept: Iterable[bytes], names: set[bytes]) -> list[bytes]:
    """Return raw field lines, each behind its CRLF, but for those that the Connection field nominates."""
    lines = (line for run in kept for line in run.split(b"\r\n")[1:])
    return [b"\r\n" + line for line in lines if line.partition(b":")[0].lower() not in names]


def refuse_hopeless(data: bytes, limit: int) -> None:
    """Raise HeadError if these bytes, in which no head ends, are no beginning of one of at most `limit` bytes."""
    if b"\n" in data:
        if _LINE.match(data) is None or _LINE_FEED_ALONE.search(data, 0, limit):
            raise HeadError("malformed_request", "A head is METHOD, target, HTTP/1.1 and fields, in lines of CRLF.")
    elif _BEGINNING.fullmatch(data) is None:
        raise HeadError("malformed_request", "This is no beginning of an HTTP/1.1 request.")
    elif len(data) > _FIRST_LINE_LIMIT:
        raise _target_too_long()
    if len(data) >= limit:
        raise HeadError("head_too_large", f"A request's head has at most {limit} bytes.", 431)


def _target_too_long() -> HeadError:
    return HeadError("target_too_long", f"A request's target has at most {TARGET_LIMIT} bytes.", 414)


def _find_target(method: bytes, target: bytes, host: bytes) -> tuple[bytes, bytes]:
    """Return the host that is meant, and the target as it is sent on."""
    # To browsers, and to what is built like them, a backslash in a path is a slash.
    if b"\\" in target.partition(b"?")[0]:
        raise HeadError("malformed_request", "A path has no backslash.")
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        if b"#" in target:
            raise HeadError("malformed_request", "A request's target has no fragment.")
        return host, target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise HeadError("malformed_request", "The request's target is neither a path nor an http URL.")
    if method == b"OPTIONS" and not absolute[2]:
        return absolute[1], b"*"  # RFC 9112 section 3.2.4: it asks about the server
    # RFC 9112 section 3.2.2: the authority of an absolute target replaces the Host field.
    return absolute[1], absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]


def with_another_body(request: RequestHead) -> RequestHead:
    """Return a request's head without its body's length: what is then sent on says the length of what is sent."""
    other = copy.copy(request)
    other.start = _LENGTH.sub(b"", request.start)
    other.chunked, other.length = True, 0
    return other


def forward_request(
    request: RequestHead, *, caller: Caller, endpoint: bytes, body_size: int | None, request_id: bytes, trace: bytes
) -> bytes:
    """Write the head for an endpoint; `body_size` None sends a chunked body, `trace` are the lines of its trace."""
    ending = b"\r\n\r\n"
    if body_size is None:
        ending = b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    elif body_size and request.chunked:
        ending = b"\r\nContent-Length: %d\r\n\r\n" % body_size
    if not request.host:
        ending = b"\r\nHost: " + endpoint + ending
    told = caller.address if request.scheme_known else caller.described
    return b"".join((request.start, told, b"\r\nX-Request-Id: ", request_id, trace, ending))
