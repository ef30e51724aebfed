"""Where a connection's requests and answers meet out of step: early answers, expectations, half a close."""

import asyncio

import orjson
import pytest
from harness import backend, eventually, front, make_pool, read_request

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("framing", [b"Content-Length: 900000", b"Transfer-Encoding: chunked"])
async def test_what_is_left_of_a_body_after_an_early_answer_is_no_request(framing: bytes) -> None:
    """RFC 9112 section 9.3: who does not read a body to its end closes behind the answer."""
    seen: list[bytes] = []

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        await writer.drain()
        await reader.read()

    async with backend(raw=early) as one, front(make_pool("p", [one.port])) as edge:
        reader, writer = await edge.connect()
        begun = b"14000\r\n" + b"x" * 0x14000 + b"\r\n" if b"chunked" in framing else b"x" * 100_000
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n" + begun)
        head = await asyncio.wait_for(reader.readuntil(b"hello"), 30)
        writer.write(SMUGGLED)
        assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
    assert b"\r\nConnection: close\r\n" in head
    assert not any(b"smuggled" in request for request in seen)
    assert len(edge.lines) == 1


async def test_an_expectation_that_nobody_can_meet() -> None:
    """A large body is not asked for before somebody can take it."""
    pool = make_pool("p", [1], ready=False)
    pool.enable(pool.endpoints[0], 0.0, enabled=False)
    async with front(pool) as edge:
        answer = await edge.call(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n" + SMUGGLED
        )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nConnection: close" in head
    assert orjson.loads(body)["reason"] == "no_endpoint_ready"


async def test_an_http_1_0_caller_is_told_nothing_in_between() -> None:
    """RFC 9110 section 15.2: it does not know 1xx; its expectation is passed over."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert one.requests[0][1] == b"hello"


@pytest.mark.parametrize("sent", [GET, GET + SMUGGLED, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe"])
async def test_half_a_close_is_a_close(sent: bytes) -> None:
    """A caller that says no more has left: its work ends at once, and what it had still asked for is not begun."""
    reached = asyncio.Event()
    gone = asyncio.Event()

    async def waiting(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        reached.set()
        await reader.read()
        gone.set()

    async with backend(raw=waiting) as one, front(make_pool("p", [one.port])) as edge:
        reader, writer = await edge.connect()
        writer.write(sent)
        if sent.startswith(GET):
            await reached.wait()
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 30) == b""
        await eventually(lambda: edge.lines and edge.at_rest)
        writer.close()
        await eventually(lambda: gone.is_set() or not reached.is_set())
    assert [line.status for line in edge.lines] == [499]


async def test_answers_to_pipelined_requests_do_not_overtake_each_other() -> None:
    """However long the first one takes; a refusal waits for its turn, too, and is the last answer."""
    hold = asyncio.Event()

    async def slow(head: bytes, _body: bytes) -> bytes:
        if b"/slow" in head:
            await hold.wait()
        return OK

    async with backend(slow) as one, front(make_pool("p", [one.port])) as edge:
        reader, writer = await edge.connect()
        writer.write(GET.replace(b"/ ", b"/slow ") + GET + b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n" + SMUGGLED)
        await eventually(lambda: one.requests)
        hold.set()
        answers = await asyncio.wait_for(reader.read(), 30)
        writer.close()
    assert [answer[:3] for answer in answers.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"400"]
    assert [request[0].split(b" ")[1] for request in one.requests] == [b"/slow", b"/"]
