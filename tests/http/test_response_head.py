"""Response heads: by example, and held against llhttp's reading."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sovren_edge.http.framing import ChunkedReader, SizedReader, UntilCloseReader
from sovren_edge.http.request import FIELDS_LIMIT
from sovren_edge.http.response import ResponseError, ResponseHead, forward_response, parse_response
from tests.http.messages import damaged, heads, up_to_empty_line
from tests.http.oracle import hear_response, joined, nominated

OK = b"HTTP/1.1 200 OK\r\n"
OURS = b"Via: 1.1 sovren-edge\r\nX-Request-Id: id-1\r\n"
DROPPED = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    *(b"via", b"x-request-id"),
}
PROTECTED = {b"close", b"keep-alive", b"upgrade", b"content-length"}

response_heads = damaged(
    heads(
        st.sampled_from([OK, OK, b"HTTP/1.0 404 \r\n", b"HTTP/1.1 204\r\n", b"HTTP/1.1 100 Continue\r\n"]),
    )
).map(up_to_empty_line)


def parse(lines: bytes) -> ResponseHead:
    """Read lines as a head."""
    return parse_response(lines + b"\r\n")


def forward(lines: bytes, *, chunked: bool = False, close: bool = False) -> bytes:
    """Read lines as a head and write it for the caller."""
    return forward_response(parse(lines), request_id=b"id-1", chunked=chunked, close=close)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (b"", "nothing at all"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "another protocol"),
        (b"HTTP/2 200\r\n", "another version"),
        (b"HTTP/1.1 99 Low\r\n", "a status has three digits"),
        (b"HTTP/1.1 099 Low\r\n", "the first of which says something"),
        (b"HTTP/1.1 200 a\0b\r\n", "a phrase is text"),
        (b"HTTP/1.1 200 OK\nA: b\r\n", "lines end with CRLF"),
        (OK + b"A: b\n", "all of them"),
        (OK + b"A: b\r\n c\r\n", "no folding"),
        (OK + b"A : b\r\n", "no space before a colon"),
        (OK + b"Content-Length: 5\r\nContent-Length: 5\r\n", "one length"),
        (OK + b"Content-Length: x\r\n", "which is a number"),
        (OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "one framing"),
        (OK + b"Transfer-Encoding: gzip\r\n", "a body that ends nobody knows where"),
        (OK + b"Transfer-Encoding: gzip, chunked\r\n", "a coding that is not ours"),
        (OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "chunked comes once"),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n", "HTTP/1.0 has no codings"),
        (b"HTTP/1.1 101 Switching\r\n", "a switch to nothing"),
        (OK + b"Connection:" + b" a" * (FIELDS_LIMIT + 1) + b"\r\n", "more names of fields than are taken"),
        (OK + b"A:\r\n" * (FIELDS_LIMIT + 1), "more fields than are taken"),
    ],
)
def test_what_is_refused(lines: bytes, why: str) -> None:
    """An endpoint that answers so has failed."""
    with pytest.raises(ResponseError):
        pytest.fail(f"{why}: {parse(lines)}")


@pytest.mark.parametrize(
    ("lines", "keep_alive"),
    [
        (OK, True),
        (OK + b"Connection: x, CLOSE\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive, close\r\n", False),
    ],
)
def test_keep_alive(*, lines: bytes, keep_alive: bool) -> None:
    """Whether the connection may serve a further request."""
    assert parse(lines).keep_alive is keep_alive


@pytest.mark.parametrize(("status", "interim"), [(100, True), (103, True), (200, False), (599, False)])
def test_interim(*, status: int, interim: bool) -> None:
    """Another response follows a 1xx."""
    assert parse(b"HTTP/1.1 %d X\r\n" % status).interim is interim


@pytest.mark.parametrize(
    ("method", "lines", "kind", "done"),
    [
        ("GET", OK + b"Content-Length: 5\r\n", SizedReader, False),
        ("GET", OK + b"Content-Length: 0\r\n", SizedReader, True),
        ("GET", OK + b"Transfer-Encoding: chunked\r\n", ChunkedReader, False),
        ("GET", OK, UntilCloseReader, False),
        ("HEAD", OK + b"Content-Length: 5\r\n", SizedReader, True),
        ("HEAD", OK + b"Transfer-Encoding: chunked\r\n", SizedReader, True),
        ("HEAD", OK, SizedReader, True),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n", SizedReader, True),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n", SizedReader, True),
        ("GET", b"HTTP/1.1 103 Early Hints\r\n", SizedReader, True),
    ],
)
def test_where_the_body_ends(*, method: str, lines: bytes, kind: type, done: bool) -> None:
    """By RFC 9112 section 6.3."""
    reader = parse(lines).reader(method)
    assert type(reader) is kind
    assert reader.done is done


@pytest.mark.parametrize("line", [b"HTTP/1.0 404 Nicht da\r\n", b"HTTP/1.1 404 Nicht da\r\n"])
def test_the_status_line_keeps_its_code_and_phrase(line: bytes) -> None:
    """The version is ours."""
    assert forward(line) == b"HTTP/1.1 404 Nicht da\r\n" + OURS + b"\r\n"


def test_fields_travel_as_they_came() -> None:
    """But for those that end here, and those that are written anew."""
    fields = b"content-type:audio/mpeg\r\nSet-Cookie:  a=\xff \r\nSET-COOKIE: b\r\nContent-Length: 5\r\n"
    dropped = b"Keep-Alive: 5\r\nConnection: A, close\r\na: 1\r\nX-Request-Id: theirs\r\nX-Sovren-Pool: x\r\nTE: y\r\n"
    assert forward(OK + fields + dropped) == OK + fields + OURS + b"\r\n"
    assert forward(OK + dropped + fields) == OK + fields + OURS + b"\r\n"


def test_the_length_cannot_be_nominated() -> None:
    """Without it, the caller could not tell where this answer ends and the next begins."""
    lines = OK + b"Content-Length: 5\r\n"
    assert forward(lines + b"Connection: content-length\r\n") == lines + OURS + b"\r\n"


def test_via_grows() -> None:
    """Several fields become one list, without empty places."""
    sent = forward(OK + b"Via: 1.0 x\r\nVia:\r\nvia: 1.1 y\r\n")
    assert b"\r\nVia: 1.0 x, 1.1 y, 1.1 sovren-edge\r\n" in sent


@pytest.mark.parametrize(
    ("chunked", "close", "ending"),
    [
        (False, False, b""),
        (True, False, b"Transfer-Encoding: chunked\r\n"),
        (False, True, b"Connection: close\r\n"),
        (True, True, b"Transfer-Encoding: chunked\r\nConnection: close\r\n"),
    ],
)
def test_how_the_answer_is_framed(*, chunked: bool, close: bool, ending: bytes) -> None:
    """As the caller's connection needs it, whatever the endpoint's did."""
    sent = forward(OK + b"Transfer-Encoding: chunked\r\nConnection: close\r\n", chunked=chunked, close=close)
    assert sent == OK + OURS + ending + b"\r\n"


@settings(max_examples=150)
@given(head=response_heads)
@example(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n")
def test_the_caller_gets_the_endpoints_fields_and_ours(head: bytes) -> None:
    """In the endpoint's order, without what ends here, and llhttp reads what we wrote."""
    try:
        response = parse_response(head)
    except ResponseError:
        return
    heard = hear_response(head)
    fields = heard.fields
    assert response.length == (int(joined(fields, b"content-length")) if joined(fields, b"content-length") else None)
    assert response.chunked is bool(joined(fields, b"transfer-encoding"))
    gone = DROPPED | (nominated(fields) - PROTECTED)
    if response.status == 204 or response.status < 200:
        # RFC 9110 section 8.6.
        gone |= {b"content-length"}
    kept = [(n, v) for n, v in fields if n.lower() not in gone and not n.lower().startswith(b"x-sovren-")]
    via = b", ".join(filter(None, [joined(fields, b"via"), b"1.1 sovren-edge"]))
    heard_there = hear_response(forward_response(response, request_id=b"id-1", chunked=False, close=False))
    assert heard_there.fields == [*kept, (b"Via", via), (b"X-Request-Id", b"id-1")]
    assert heard_there.phrase == heard.phrase


@settings(max_examples=200)
@given(
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from([OK, b"HTTP/1.1 ", b"100 ", b"\r\n", b"\r\n\r\n", b"Content-Length: ", b"5", b"Via:"]),
        ),
        max_size=12,
    )
)
def test_any_bytes_are_read_or_refused(pieces: list[bytes]) -> None:
    """Nothing but ResponseError is ever raised, whole head or not."""
    for data in (b"".join(pieces), up_to_empty_line(b"".join(pieces))):
        try:
            status = parse_response(data).status
        except ResponseError:
            status = 100
        assert 100 <= status <= 999


def test_a_switch_of_protocols_travels() -> None:
    """It is no interim answer, and it has no body."""
    lines = b"HTTP/1.1 101 Switching\r\n"
    switch = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    assert forward(lines + b"Upgrade: websocket\r\nA: b\r\nConnection: upgrade\r\n") == (
        lines + b"A: b\r\n" + switch + OURS + b"\r\n"
    )
    response = parse(lines + switch)
    assert (response.interim, response.upgrade, response.sized("GET")) == (False, b"websocket", False)


@pytest.mark.parametrize(
    ("lines", "method", "sized"),
    [
        (OK + b"Content-Length: 5\r\n", "GET", True),
        (OK + b"Content-Length: 5\r\n", "HEAD", False),
        (b"HTTP/1.1 304 Same\r\nContent-Length: 5\r\n", "GET", False),
        (OK, "GET", False),
    ],
)
def test_which_bodies_have_a_known_length(*, lines: bytes, method: str, sized: bool) -> None:
    """And are not left out."""
    assert parse(lines).sized(method) is sized
