"""llhttp's reading of a request's head and ours are one, whatever the bytes."""

from collections.abc import Sequence

import httptools
from hypothesis import given, settings
from hypothesis import strategies as st

from sovren_edge.http.request import Caller, HeadError, forward_request, parse_request
from tests.http.messages import TOKEN, VALUES, damaged, heads, text_of, up_to_empty_line
from tests.http.oracle import Field, Heard, hear_request, joined, nominated

DROPPED = {
    *(b"connection", b"keep-alive", b"proxy-authorization", b"proxy-connection", b"te", b"trailer"),
    *(b"transfer-encoding", b"upgrade", b"expect", b"host", b"via", b"x-request-id", b"x-forwarded-for"),
}
PROTECTED = {b"close", b"keep-alive", b"upgrade", b"te", b"host", b"content-length"}
ENDPOINT, PEER, REQUEST_ID = b"10.0.0.2:8100", b"10.0.0.9", b"id-1"

methods = st.sampled_from([b"GET", b"POST", b"OPTIONS", b"M-SEARCH", b"FETCH"])
targets = st.one_of(
    st.sampled_from([b"/", b"*", b"http://b", b"http://b:80/c?d", b"https://b?c", b"/a#b", b"http://a@b/", b"b"]),
    text_of(TOKEN + b"/?=@:[]", most=20).map(lambda path: b"/" + path),
)
first_lines = st.builds(
    lambda method, target, minor, host: b"%s %s HTTP/1.%d\r\n%s" % (method, target, minor, host),
    methods,
    targets,
    st.sampled_from([1, 1, 1, 0]),
    st.sampled_from([b"Host: a\r\n", b"Host: a\r\n", b""]),
)
request_heads = damaged(heads(first_lines)).map(up_to_empty_line)


def has_forwarded_name(name: bytes) -> bool:
    """Whether a field is believed from trusted addresses alone; `x-forwarded-` without more is nobody's."""
    return name in {b"forwarded", b"x-real-ip"} or (name.startswith(b"x-forwarded-") and name != b"x-forwarded-")


def expected_fields(heard: Heard, *, trusted: bool) -> list[Field]:
    """Say which fields an endpoint gets, by the rules alone."""
    gone = DROPPED | (nominated(heard.fields) - PROTECTED)

    def travels(name: bytes) -> bool:
        return name not in gone and not name.startswith(b"x-sovren-") and (trusted or not has_forwarded_name(name))

    kept = [(name, value) for name, value in heard.fields if travels(name.lower())]
    host = (authority(heard.url) or joined(heard.fields, b"host")) or ENDPOINT
    names = {name.lower() for name, _ in kept}
    chain = joined(heard.fields, b"x-forwarded-for") if trusted else b""
    via = joined(heard.fields, b"via")
    ours = [(b"Via", listed(via, b"1.1 sovren-edge"))]
    ours += [(b"X-Forwarded-Host", host)] * (b"x-forwarded-host" not in names and host is not ENDPOINT)
    ours += [(b"X-Forwarded-For", listed(chain, PEER))]
    ours += [(b"X-Forwarded-Proto", b"http")] * (b"x-forwarded-proto" not in names)
    ours.append((b"X-Request-Id", REQUEST_ID))
    if any(name.lower() == b"transfer-encoding" for name, _ in heard.fields):
        ours.append((b"Transfer-Encoding", b"chunked"))
    return [(b"Host", host), *kept, *ours] if host is not ENDPOINT else [*kept, *ours, (b"Host", host)]


def listed(*members: bytes) -> bytes:
    """Write a list of what there is."""
    return b", ".join(filter(None, members))


def authority(url: bytes) -> bytes:
    """Return an absolute target's authority, by llhttp's reading of it."""
    if url.startswith((b"/", b"*")):
        return b""
    parsed = httptools.parse_url(url)
    host = b"[" + parsed.host + b"]" if b":" in parsed.host else parsed.host
    return host if parsed.port is None else b"%s:%d" % (host, parsed.port)


@settings(max_examples=200)
@given(head=request_heads, trusted=st.booleans())
def test_an_endpoint_gets_the_callers_fields_and_ours(*, head: bytes, trusted: bool) -> None:
    """In the caller's order, without what ends here, and llhttp reads what we wrote."""
    try:
        request = parse_request(head, trusted=trusted)
    except HeadError:
        return
    heard = hear_request(head)
    sent = forward_request(
        request,
        caller=Caller(PEER, b"http"),
        endpoint=ENDPOINT,
        body_size=None if request.chunked else request.length,
        request_id=REQUEST_ID,
        trace=request.trace,
    )
    assert sent.count(b"\r\n\r\n") == 1
    heard_there = hear_request(sent)
    assert heard_there.fields == expected_fields(heard, trusted=trusted)
    assert heard_there.url == request.target
    if heard.url.startswith(b"http") and request.target == b"*":
        assert (request.method, heard.url.count(b"/")) == ("OPTIONS", 2), "about the server: RFC 9112 section 3.2.4"
    else:
        assert heard.url.endswith(request.target.removeprefix(b"/"))


@settings(max_examples=150)
@given(head=request_heads)
def test_what_is_accepted_llhttp_accepts(head: bytes) -> None:
    """And its length, its host and its framing are llhttp's."""
    try:
        request = parse_request(head, trusted=False)
    except HeadError:
        return
    heard = hear_request(head)
    assert request.length == int(joined(heard.fields, b"content-length") or b"0")
    assert request.chunked is (joined(heard.fields, b"transfer-encoding").lower() == b"chunked")
    assert request.host == (authority(heard.url) or joined(heard.fields, b"host"))
    said = nominated(heard.fields)
    assert request.keep_alive is (b"close" not in said and (request.minor == 1 or b"keep-alive" in said))


@settings(max_examples=150)
@given(
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from([b"GET / HTTP/1.1\r\n", b"Host: a", b"\r\n", b"\r\n\r\n", b": ", b"Content-Length:", b"5"]),
            st.sampled_from(VALUES),
        ),
        max_size=12,
    ),
    trusted=st.booleans(),
)
def test_any_bytes_are_read_or_refused(*, pieces: Sequence[bytes], trusted: bool) -> None:
    """Nothing but HeadError is ever raised, whole head or not."""
    for data in (b"".join(pieces), up_to_empty_line(b"".join(pieces))):
        try:
            parse_request(data, trusted=trusted)
        except HeadError as error:
            refused = error.status
        else:
            refused = 0
        assert refused in {0, 400, 417, 431, 501, 505}
