"""The data path, over real sockets: what callers send is what endpoints get, and back."""

import asyncio
from ipaddress import ip_network

import pytest
from harness import backend, front, make_pool, read_request

from sovren_edge.auth.networks import Networks

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET /a?b=c HTTP/1.1\r\nHost: me\r\nConnection: close\r\n\r\n"


def post(body: bytes, *, close: bool = True) -> bytes:
    """Make a POST with a sized body."""
    connection = b"Connection: close\r\n" if close else b""
    return b"POST /speak HTTP/1.1\r\nHost: me\r\n%sContent-Length: %d\r\n\r\n%s" % (connection, len(body), body)


async def test_a_request_and_its_answer_pass() -> None:
    """The endpoint sees the request with the proxy's fields; the caller sees the answer with its own."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(
            b"GET /a?b=c HTTP/1.1\r\nHost: me\r\nX-Own: 1\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n"
            b"X-Sovren-Debug: 1\r\n\r\n"
        )
    head, body = one.requests[0]
    assert head.startswith(b"GET /a?b=c HTTP/1.1\r\nHost: me\r\nX-Own: 1\r\n")
    assert b"X-Forwarded-For: 127.0.0.1\r\n" in head
    assert b"X-Forwarded-Proto: http\r\n" in head
    assert b"Via: 1.1 sovren-edge\r\n" in head
    assert b"X-Request-Id: " in head
    assert b"X-Hop" not in head
    assert b"X-Sovren" not in head
    assert b"Connection" not in head
    assert body == b""
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"X-Request-Id: " in answer
    assert answer.endswith(b"\r\nConnection: close\r\n\r\nhello")
    assert edge.lines[0].status == 200
    assert edge.lines[0].path == "/a"
    assert edge.lines[0].ended == "complete"


async def test_connections_are_kept_on_both_sides() -> None:
    """Requests one after the other use one connection of the caller's and one to the endpoint."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        reader, writer = await edge.connect()
        for _ in range(5):
            writer.write(b"GET / HTTP/1.1\r\nHost: me\r\n\r\n")
            await reader.readuntil(b"hello")
        writer.close()
    assert one.connections == 1
    assert len(one.requests) == 5


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Also behind a chunked body, and with a page of our own between."""

    def echo(head: bytes, body: bytes) -> bytes:
        said = head.split(b" ")[1] + body
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said)

    async with backend(echo) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(
            b"GET /1 HTTP/1.1\r\nHost: me\r\n\r\n"
            b"POST /2 HTTP/1.1\r\nHost: me\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            b"GET /health HTTP/1.1\r\nHost: me\r\n\r\n"
            b"GET /4 HTTP/1.1\r\nHost: me\r\nConnection: close\r\n\r\n"
        )
    assert [answer.find(said) for said in (b"/1", b"/2abc", b'{"status":"ok","service":"door"}', b"/4")] == sorted(
        answer.find(said) for said in (b"/1", b"/2abc", b'{"status":"ok","service":"door"}', b"/4")
    )
    assert answer.count(b"200 OK") == 4


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 3_000_000])
async def test_bodies_of_all_sizes_pass(size: int) -> None:
    """Kept or streamed, an endpoint gets every byte."""
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        assert (await edge.call(post(body))).endswith(b"hello")
    assert one.requests[0][1] == body


@pytest.mark.parametrize("count", [1, 40])
async def test_chunked_bodies_pass(count: int) -> None:
    """A small one arrives sized, a large one chunked."""
    piece = b"y" * 4000
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for _ in range(count))
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        request = b"POST / HTTP/1.1\r\nHost: me\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert (await edge.call(request + chunks + b"0\r\n\r\n")).endswith(b"hello")
    head, body = one.requests[0]
    assert body == piece * count
    assert (b"Content-Length: 4000" in head) == (count == 1)


async def test_a_chunked_answer_is_chunked_again() -> None:
    """To an HTTP/1.1 caller; one of HTTP/1.0 gets the bytes and the close."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n"
    async with backend(lambda _h, _b: chunked) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(GET)
        old = await edge.call(b"GET / HTTP/1.0\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in answer
    assert answer.endswith(b"\r\n\r\n5\r\nabcde\r\n0\r\n\r\n")
    assert b"Transfer-Encoding" not in old
    assert old.endswith(b"\r\n\r\nabcde")
    assert one.connections == 1


async def test_an_answer_that_ends_with_its_connection() -> None:
    """It is whole when the endpoint closes in order."""

    async def until_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.0 200 OK\r\nX-A: b\r\n\r\nsome bytes")
        await writer.drain()

    async with backend(raw=until_close) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(GET)
    assert answer.endswith(b"\r\n\r\na\r\nsome bytes\r\n0\r\n\r\n")
    assert edge.lines[0].ended == "complete"


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: x\r\n\r\n"),
    ],
)
async def test_answers_without_a_body(method: bytes, answer: bytes) -> None:
    """Their length, if any, is passed on and not waited for; the connection is used again."""
    async with backend(lambda _h, _b: answer) as one, front(make_pool("p", [one.port])) as edge:
        reader, writer = await edge.connect()
        for _ in range(2):
            writer.write(method + b" / HTTP/1.1\r\nHost: me\r\n\r\n")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            assert (b"Content-Length: 500" in head) == (b"500" in answer)
        writer.close()
    assert one.connections == 1


async def test_interim_answers_pass() -> None:
    """103 goes to the caller, 100 is ours."""
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with backend(lambda _h, _b: hints + OK) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(GET)
    assert answer.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n")
    assert b"100 Continue" not in answer
    assert answer.endswith(b"hello")


@pytest.mark.parametrize("size", [10, 100_000])
async def test_expectations_are_met_by_us(size: int) -> None:
    """The caller is told to go on, and the endpoint sees no expectation."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        reader, writer = await edge.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: me\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % size)
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"z" * size)
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 OK")
        writer.close()
    assert b"Expect" not in one.requests[0][0]


async def test_forwarded_fields_of_strangers_are_replaced() -> None:
    """And those of trusted addresses are added to."""
    request = GET.replace(b"\r\nConnection", b"\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nConnection")
    async with backend(lambda _h, _b: OK) as one:
        async with front(make_pool("p", [one.port])) as edge:
            await edge.call(request)
        async with front(make_pool("p", [one.port]), trusted=Networks([ip_network("10.0.0.0/8")])) as edge:
            await edge.call(request)
    believed, replaced = one.requests[0][0], one.requests[1][0]
    assert b"X-Forwarded-For: 1.2.3.4, 127.0.0.1\r\n" in believed
    assert b"X-Forwarded-Proto: https\r\n" in believed
    assert b"X-Forwarded-For: 127.0.0.1\r\n" in replaced
    assert b"X-Forwarded-Proto: http\r\n" in replaced


@pytest.mark.parametrize("given", [b"abc-1._Z", b"bad id", b"x" * 129])
async def test_request_ids(given: bytes) -> None:
    """A good one is kept, any other is replaced; the answer has the one that the endpoint saw."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(GET.replace(b"\r\nConnection", b"\r\nX-Request-Id: " + given + b"\r\nConnection"))
    seen = one.requests[0][0].split(b"X-Request-Id: ")[1].split(b"\r\n")[0]
    assert (seen == given) == (given == b"abc-1._Z")
    assert b"X-Request-Id: " + seen in answer
