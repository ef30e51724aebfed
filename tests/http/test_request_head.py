"""Request heads by example: what is accepted, what is refused and why, and what travels on."""

import time
from contextlib import suppress

import pytest

from sovren_edge.http.request import FIELDS_LIMIT, Caller, HeadError, RequestHead, forward_request, parse_request
from tests.http.oracle import hear_request

POST = b"POST /speak HTTP/1.1\r\nHost: a\r\n"
OURS = (
    b"Via: 1.1 sovren-edge\r\nX-Forwarded-Host: a\r\n"
    b"X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Proto: http\r\nX-Request-Id: id-1\r\n"
)


def parse(lines: bytes, *, trusted: bool = False) -> RequestHead:
    """Read lines as a head."""
    return parse_request(lines + b"\r\n", trusted=trusted)


def forward(
    lines: bytes, *, trusted: bool = False, body_size: int | None = 0, endpoint: bytes = b"10.0.0.2:8100"
) -> bytes:
    """Read lines as a head and write it for an endpoint."""
    request = parse(lines, trusted=trusted)
    caller = Caller(b"10.0.0.9", b"http")
    return forward_request(
        request, caller=caller, endpoint=endpoint, body_size=body_size, request_id=b"id-1", trace=request.trace
    )


@pytest.mark.parametrize(
    ("lines", "status", "reason", "why"),
    [
        (b"", 400, "malformed_request", "nothing at all"),
        (b"GET /\r\n", 400, "malformed_request", "HTTP/0.9 has no head"),
        (b"get / HTTP/1.1\r\nHost: a\r\n", 400, "malformed_request", "methods are in upper case"),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n", 400, "malformed_request", "one space between the parts"),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n", 400, "malformed_request", "nothing behind the version"),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n", 400, "malformed_request", "a target is ASCII"),
        (b"GET / HTTP/1.1\nHost: a\r\n", 400, "malformed_request", "lines end with CRLF"),
        (b"GET / HTTP/1.1\r\nHost: a\nA: b\r\n", 400, "malformed_request", "also among the fields"),
        (b"GET / HTTP/1.1\r\nHost: a\rA: b\r\n", 400, "malformed_request", "a CR alone ends nothing"),
        (b"GET / HTTP/1.2\r\nHost: a\r\n", 400, "malformed_request", "there is no HTTP/1.2"),
        (b"PRI * HTTP/2.0\r\n", 505, "unsupported_version", "HTTP/2 by prior knowledge"),
        (b"GET / HTTP/0.9\r\n", 505, "unsupported_version", "too old"),
        (b"FETCH / HTTP/1.1\r\nHost: a\r\n", 501, "unknown_method", "no method of HTTP"),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n", 501, "unsupported_method", "no tunnels"),
        (b"GET / HTTP/1.1\r\n", 400, "malformed_request", "HTTP/1.1 names its host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400, "malformed_request", "but one"),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n", 400, "malformed_request", "in HTTP/1.0, too"),
        (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n", 400, "malformed_request", "two lengths"),
        (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n", 400, "malformed_request", "also when they agree"),
        (POST + b"Content-Length: 5, 5\r\n", 400, "malformed_request", "a length is no list"),
        (POST + b"Content-Length: +5\r\n", 400, "malformed_request", "a length has digits alone"),
        (POST + b"Content-Length: 0x5\r\n", 400, "malformed_request", "decimal ones"),
        (POST + b"Content-Length:\r\n", 400, "malformed_request", "and at least one"),
        (POST + b"Content-Length: 99999999999999999999\r\n", 400, "malformed_request", "a length has an end"),
        (
            POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            400,
            "malformed_request",
            "two framings: the way requests are smuggled",
        ),
        (POST + b"Transfer-Encoding: gzip\r\n", 400, "malformed_request", "where would the body end?"),
        (POST + b"Transfer-Encoding: chunked, gzip\r\n", 400, "malformed_request", "chunked comes last"),
        (
            POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            400,
            "malformed_request",
            "chunked comes once",
        ),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n", 501, "unsupported_coding", "well framed, but not for us"),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", 501, "unsupported_coding", "HTTP/1.0 has no codings"),
        (POST + b"Content-Length : 5\r\n", 400, "malformed_request", "no space before a colon"),
        (POST + b" A: b\r\n", 400, "malformed_request", "no folding"),
        (POST + b"A: b\r\n\tc\r\n", 400, "malformed_request", "however it looks"),
        (POST + b"A\r\n", 400, "malformed_request", "a field has a colon"),
        (POST + b": b\r\n", 400, "malformed_request", "and a name"),
        (POST + b"A(b): c\r\n", 400, "malformed_request", "which is a token"),
        (POST + b"A: \0\r\n", 400, "malformed_request", "no control characters"),
        (POST + b"Expect: 200-ok\r\n", 417, "expectation_failed", "the one expectation is 100-continue"),
        (b"GET /a#b HTTP/1.1\r\nHost: a\r\n", 400, "malformed_request", "fragments stay with the client"),
        (b"GET * HTTP/1.1\r\nHost: a\r\n", 400, "malformed_request", "the asterisk is for OPTIONS"),
        (b"GET speak HTTP/1.1\r\nHost: a\r\n", 400, "malformed_request", "a path begins with a slash"),
        (b"GET ftp://b/ HTTP/1.1\r\nHost: a\r\n", 400, "malformed_request", "no scheme of ours"),
        (b"GET http:///b HTTP/1.1\r\nHost: a\r\n", 400, "malformed_request", "a URL has a host"),
        (b"GET http://b/#c HTTP/1.1\r\nHost: a\r\n", 400, "malformed_request", "and no fragment either"),
        (b"GET http://b@c/ HTTP/1.1\r\nHost: a\r\n", 400, "malformed_request", "and no user"),
        (POST + b"Connection:" + b" a" * (FIELDS_LIMIT + 1) + b"\r\n", 431, "head_too_large", "names of fields"),
        (POST + b"A:\r\n" * FIELDS_LIMIT, 431, "head_too_large", "more fields than are taken"),
    ],
)
def test_what_is_refused(lines: bytes, status: int, reason: str, why: str) -> None:
    """Each with the status and the reason that its sender is told."""
    with pytest.raises(HeadError) as caught:
        parse(lines)
    error = caught.value
    assert (error.status, error.reason) == (status, reason), why
    assert str(error) == error.detail


def test_a_hundred_fields_are_taken() -> None:
    """As other proxies do; the host is one of them."""
    assert parse(POST + b"A:\r\n" * (FIELDS_LIMIT - 1)).start.count(b"A:") == FIELDS_LIMIT - 1


@pytest.mark.parametrize(
    ("line", "target", "host"),
    [
        (b"GET / HTTP/1.1", b"/", b"a"),
        (b"GET //b?c=/d%20 HTTP/1.1", b"//b?c=/d%20", b"a"),
        (b"OPTIONS * HTTP/1.1", b"*", b"a"),
        (b"GET http://b:80/c?d HTTP/1.1", b"/c?d", b"b:80"),
        (b"GET HTTPS://b HTTP/1.1", b"/", b"b"),
        (b"GET http://b?c=@d HTTP/1.1", b"/?c=@d", b"b"),
        (b"GET http://[::1]:80/@c HTTP/1.1", b"/@c", b"[::1]:80"),
    ],
)
def test_targets(line: bytes, target: bytes, host: bytes) -> None:
    """An absolute target is cut to its path, and its authority replaces the host."""
    request = parse(line + b"\r\nHost: a\r\n")
    assert (request.target, request.host) == (target, host)


def test_the_path_is_the_target_without_its_query() -> None:
    """Own pages are found by it."""
    assert parse(b"GET /health?a=/b HTTP/1.1\r\nHost: a\r\n").path == "/health"


@pytest.mark.parametrize(
    ("lines", "keep_alive"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n", False),
        (b"GET / HTTP/1.0\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n", True),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n", True),
    ],
)
def test_keep_alive(*, lines: bytes, keep_alive: bool) -> None:
    """HTTP/1.1 keeps a connection unless told otherwise, HTTP/1.0 the other way round."""
    assert parse(lines).keep_alive is keep_alive


@pytest.mark.parametrize(
    ("lines", "length", "chunked"),
    [
        (POST, 0, False),
        (POST + b"Content-Length: 0\r\n", 0, False),
        (POST + b"content-length:\t007 \t\r\n", 7, False),
        (POST + b"TRANSFER-ENCODING: Chunked\r\n", 0, True),
    ],
)
def test_framing(*, lines: bytes, length: int, chunked: bool) -> None:
    """A body is sized or chunked, or there is none."""
    request = parse(lines)
    assert (request.length, request.chunked) == (length, chunked)
    assert request.bodiless is (not length and not chunked)


@pytest.mark.parametrize(
    ("lines", "expects"),
    [
        (POST + b"Expect: 100-Continue\r\n", True),
        (b"POST / HTTP/1.0\r\nExpect: 100-continue\r\n", False),
        (POST, False),
    ],
)
def test_expectations(*, lines: bytes, expects: bool) -> None:
    """An HTTP/1.0 caller does not know interim answers: its expectation is passed over."""
    assert parse(lines).expects is expects


@pytest.mark.parametrize(
    ("value", "request_id"), [(b"a-B_1.2", b"a-B_1.2"), (b"a b", b""), (b"", b""), (b"a" * 129, b""), (b"a\xe9", b"")]
)
def test_a_request_id_is_believed_when_it_is_one(value: bytes, request_id: bytes) -> None:
    """It ends up in logs and in answers, so it is short and plain."""
    assert parse(POST + b"X-Request-ID: " + value + b"\r\n").request_id == request_id


def test_fields_travel_as_they_came() -> None:
    """In their order, their case and their spaces."""
    fields = b"accept:*/*\r\nX-A:  1 \r\nCookie: \xff\r\nx-a:2\r\n"
    assert forward(POST + fields) == POST + fields + OURS + b"\r\n"


def test_hop_by_hop_fields_end_here() -> None:
    """Those of RFC 9110 section 7.6.1, and those that the connection nominates."""
    sent = forward(
        POST + b"Keep-Alive: 5\r\nA: 1\r\nConnection: a-b, C, close\r\nA-B: 2\r\nTE: trailers\r\nTrailer: T\r\nc: 3\r\n"
        b"Proxy-Connection: x\r\nProxy-Authorization: y\r\nC-D: 4\r\nUpgrade: z\r\n"
    )
    assert sent == POST + b"A: 1\r\nC-D: 4\r\n" + OURS + b"\r\n"


@pytest.mark.parametrize("name", [b"Host", b"Content-Length", b"Via", b"X-Request-Id", b"X-Forwarded-For"])
def test_what_is_ours_cannot_be_nominated(name: bytes) -> None:
    """A caller who could drop the length would smuggle a request."""
    lines = POST + b"Content-Length: 5\r\n"
    assert forward(lines + b"Connection: " + name + b"\r\n", body_size=5) == forward(lines, body_size=5)


def test_a_nominated_forwarded_field_is_written_anew() -> None:
    """An endpoint always learns the scheme and the host."""
    sent = forward(POST + b"X-Forwarded-Proto: https\r\nConnection: x-forwarded-proto\r\n", trusted=True)
    assert sent == POST + OURS + b"\r\n"


def test_an_offer_to_speak_websocket_travels() -> None:
    """It is a hop's own affair, so it is written anew."""
    offer = b"Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
    assert b"\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n" in forward(b"GET / HTTP/1.1\r\nHost: a\r\n" + offer)
    assert parse(b"GET / HTTP/1.1\r\nHost: a\r\n" + offer).upgrade == b"WebSocket"


@pytest.mark.parametrize(
    "lines",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket, h2c\r\nConnection: upgrade\r\n",
        POST + b"Content-Length: 5\r\nUpgrade: websocket\r\nConnection: upgrade\r\n",
    ],
)
def test_other_offers_end_here(lines: bytes) -> None:
    """One without its Connection field, from an old caller, to another protocol, or with a body."""
    assert not parse(lines).upgrade
    assert b"Upgrade" not in forward(lines)


def test_forwarded_fields_of_strangers_are_dropped() -> None:
    """Anybody can write them."""
    fields = b"X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\n"
    assert forward(POST + fields + b"X-Sovren-Caller: boss\r\n") == POST + OURS + b"\r\n"


def test_forwarded_fields_of_trusted_proxies_are_added_to() -> None:
    """The chain of addresses grows; scheme and host are those that the first proxy saw."""
    fields = b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: edge\r\nForwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\n"
    chain = b"X-Forwarded-For: 1.1.1.1\r\nx-forwarded-for: \r\nX-FORWARDED-FOR: 2.2.2.2 \r\n"
    assert forward(POST + fields + chain, trusted=True) == (
        POST
        + fields
        + b"Via: 1.1 sovren-edge\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 10.0.0.9\r\nX-Request-Id: id-1\r\n\r\n"
    )


def test_via_grows() -> None:
    """Several fields become one list, without empty places."""
    sent = forward(POST + b"Via: 1.0 x\r\nVia:\r\nvia: 1.1 y\r\n")
    assert b"\r\nVia: 1.0 x, 1.1 y, 1.1 sovren-edge\r\n" in sent


@pytest.mark.parametrize("lines", [b"GET / HTTP/1.0\r\n", b"GET / HTTP/1.1\r\nHost:\r\n"])
def test_where_no_host_is_named_the_endpoints_address_is(lines: bytes) -> None:
    """HTTP/1.1 asks for one."""
    assert forward(lines).count(b"\r\nHost: 10.0.0.2:8100\r\n") == 1
    assert forward(lines).count(b"Host") == 1


@pytest.mark.parametrize(
    ("field", "body_size", "ending"),
    [
        (b"", 0, b""),
        (b"Content-Length: 5\r\n", 5, b""),
        (b"Transfer-Encoding: chunked\r\n", 5, b"Content-Length: 5\r\n"),
        (b"Transfer-Encoding: chunked\r\n", 0, b""),
        (b"Transfer-Encoding: chunked\r\n", None, b"Transfer-Encoding: chunked\r\n"),
    ],
)
def test_a_body_is_framed_once(field: bytes, body_size: int | None, ending: bytes) -> None:
    """A chunked body that was kept whole goes on with its length."""
    sent = forward(POST + field, body_size=body_size)
    assert sent.endswith(b"X-Request-Id: id-1\r\n" + ending + b"\r\n")
    framing = [name for name, _ in hear_request(sent).fields if name in {b"Content-Length", b"Transfer-Encoding"}]
    assert len(framing) == bool(field and body_size != 0)


@pytest.mark.parametrize(
    "fields",
    [
        b"Connection: " + b",".join(b"%x" % number for number in range(6000)) + b"\r\n",
        b"Connection:" + b"," * 32000 + b"\r\n",
        b"Connection: " + b",".join(b"%x" % number for number in range(3000)) + b"\r\n" + b"a:\r\n" * 4000,
        b"Via: a\r\n" * 4000,
        b"TE:\r\n" * 6000,
        b"".join(b"x-forwarded-%x:\r\n" % number for number in range(1700)),
        b"A: " + b"\xff" * 32000 + b"\r\n",
    ],
)
def test_no_head_holds_the_loop(fields: bytes) -> None:
    """The largest heads take a few milliseconds at the very most, whatever is in them (best of five)."""
    took_s = []
    for _ in range(5):
        began = time.thread_time()
        with suppress(HeadError):
            parse(POST + fields, trusted=True)
        took_s.append(time.thread_time() - began)
    assert min(took_s) < 0.01


@pytest.mark.parametrize("name", [b"X_Forwarded_For", b"x-forwarded_proto", b"X_Real_IP", b"X_Sovren_Priority"])
@pytest.mark.parametrize("trusted", [True, False])
def test_underscores_open_no_second_door(name: bytes, *, trusted: bool) -> None:
    """Many servers read them as hyphens."""
    assert name.lower() not in forward(POST + name + b": 1.2.3.4\r\n", trusted=trusted).lower()


def test_an_authorization_is_read_and_travels_on() -> None:
    """As it came; two of them are none that anybody knows."""
    lines = POST + b"authorization:  Bearer abc \r\nAccept: */*\r\n"
    assert parse(lines).authorization == b"Bearer abc"
    assert b"\r\nauthorization:  Bearer abc \r\n" in forward(lines)
    assert parse(lines + b"Authorization: Bearer d\r\n").authorization == b"Bearer abc, Bearer d"
    assert parse(POST + b"Author: me\r\nProxy-Authorization: Basic abc\r\n").authorization == b""
