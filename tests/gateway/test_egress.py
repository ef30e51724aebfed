"""Requests to external APIs: real servers on loopback, with TLS, behind a real name server."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme

from sovren_edge.gateway.egress.dial import Attempt
from tests.gateway.tls_upstream import (
    HOST,
    OK,
    OTHER,
    Call,
    Stage,
    answer_ok,
    pieces,
    read,
    staged,
    target,
)


@pytest.mark.parametrize(
    "rest",
    [
        "/",
        "//evil.example.com//x/../y/./..",
        "/a%2Fb%2fc+d%7E~%7e?sig=a%2Fb+c%7E~%3D%3d&&x=&y&=z?&q=a:b@c/d//..",
        "/%FF%00%zz?%FF&%",
        "/[a]{b}|c;d=e,'f'(g)*!$?[a]{b}|c;^`",
        "/a?b??c",
        "/" + "x" * 8000,
    ],
)
@pytest.mark.parametrize("origin", [f"https://{HOST}", "HTTPS://API.Example.COM:443"])
async def test_the_url_is_sent_as_it_was_given(stage: Stage, origin: str, rest: str) -> None:
    """Byte for byte: whoever signs a query signs its escapes."""
    await stage.fetch(origin + rest)
    assert stage.upstream.calls[0].line == f"GET {rest} HTTP/1.1"
    assert stage.upstream.calls[0].values("host") == [HOST]
    assert stage.upstream.tls_names == [HOST]


async def test_fields_are_sent_as_they_were_given(stage: Stage) -> None:
    """In order, in their case, repeated; beside them Host and framing, and nothing else."""
    fields = [
        ("X-One", "1"), ("x-two", 'äöü \t,"q"'), ("x-one", "2"), ("X-One", "3"), ("ACCEPT", "*/*"),
        ("user-agent", "mine"), ("Authorization", "Bearer t"), ("content-encoding", "gzip"), ("X-Empty", ""),
    ]  # fmt: skip
    async with stage.egress.send(target(f"https://{HOST}/"), "GET", fields):
        (call,) = stage.upstream.calls
    sent = [(name, value.encode("latin-1").decode()) for name, value in call.fields]
    assert sent == [("Host", HOST), *fields]


@pytest.mark.parametrize(
    ("method", "framing"),
    [("GET", []), ("HEAD", []), *((name, [("Content-Length", "0")]) for name in ("POST", "PUT", "PATCH", "DELETE"))],
)
async def test_nothing_is_added_but_who_we_are(stage: Stage, method: str, framing: list[tuple[str, str]]) -> None:
    """A User-Agent is, when the caller has none: without one, many services refuse."""
    await stage.fetch(method=method)
    assert stage.upstream.calls[0].fields == [("Host", HOST), *framing, ("User-Agent", "sovren-edge")]
    assert stage.upstream.calls[0].line == f"{method} / HTTP/1.1"


@pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "connection", "Expect", "Upgrade"])
async def test_framing_is_not_the_callers(stage: Stage, name: str) -> None:
    """A second Host or length would be smuggling: nothing is sent at all."""
    with pytest.raises(ValueError, match=name):
        async with stage.egress.send(target(f"https://{HOST}/"), "GET", [(name, "1")]):
            pass
    assert stage.upstream.connections == 0


@pytest.mark.parametrize(
    ("body", "length", "framing"),
    [
        (b"x" * 3_000_000, None, ("Content-Length", "3000000")),
        (b"abc", None, ("Content-Length", "3")),
        (b"abc", 3, ("Content-Length", "3")),
        (b"abc", None, ("Transfer-Encoding", "chunked")),
    ],
    ids=["large", "bytes", "length known", "length unknown"],
)
@pytest.mark.parametrize("method", ["POST", "DELETE", "GET"])
async def test_a_body_and_its_framing(
    stage: Stage, method: str, body: bytes, length: int | None, framing: tuple[str, str]
) -> None:
    """Chunks only where the length is not known."""
    bodies = []

    async def script(call: Call) -> None:
        bodies.append(await call.body())
        call.writer.write(OK)

    stage.upstream.script = script
    given = pieces(b"", body[:1], b"", body[1:]) if length or "Transfer-Encoding" in framing else body
    url = target(f"https://{HOST}/")
    async with stage.egress.send(url, method, [], given, length=length) as answer:
        assert await read(answer) == b"ok"
    assert bodies == [body]
    assert stage.upstream.calls[0].fields == [("Host", HOST), framing, ("User-Agent", "sovren-edge")]
    await stage.fetch()
    assert stage.upstream.connections == 1


@pytest.mark.parametrize("given", [b"ab", b"abcd"])
async def test_a_body_of_another_length_than_announced(stage: Stage, given: bytes) -> None:
    """The connection is never used again: what is missing or too much would be part of the next request."""
    with pytest.raises(ValueError, match="3 bytes"):
        await stage.egress.send(target(f"https://{HOST}/"), "POST", [], pieces(b"", given), length=3).__aenter__()
    await stage.fetch()
    assert stage.upstream.calls[-1].connection == 2
    assert stage.upstream.calls[-1].line == "GET / HTTP/1.1"


async def test_an_answer_before_the_end_of_the_request(stage: Stage) -> None:
    """It is the answer; what is left of the body is not sent, so the connection is not used again."""

    async def stuck() -> AsyncIterator[bytes]:
        yield b"1"
        await asyncio.Event().wait()

    async with stage.egress.send(target(f"https://{HOST}/"), "POST", [], stuck(), length=3) as answer:
        assert await read(answer) == b"ok"
    await stage.fetch()
    assert [(call.line, call.connection) for call in stage.upstream.calls[1:]] == [("GET / HTTP/1.1", 2)]


async def test_bytes_flow_both_ways_at_once(stage: Stage) -> None:
    """Upstream answers each piece of the request before the next one is made."""

    async def script(call: Call) -> None:
        call.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while piece := await call.chunk():
            call.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece.upper()))
        call.writer.write(b"0\r\n\r\n")

    stage.upstream.script = script
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def spoken() -> AsyncIterator[bytes]:
        yield b"first"
        for number in range(3):
            assert await heard.get()
            yield b"more %d" % number

    async with stage.egress.send(target(f"https://{HOST}/"), "POST", [], spoken()) as answer:
        async for piece in answer.body():
            heard.put_nowait(piece)
            last = piece
    assert last == b"MORE 2"


async def test_what_the_body_raises_is_the_callers(stage: Stage) -> None:
    """It is no fault of upstream's, so it comes out as it went in; the attempt knows that something was sent."""
    arrived = asyncio.Event()

    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        await arrived.wait()
        raise ConnectionResetError("the caller left")

    async def script(call: Call) -> None:
        arrived.set()
        await call.reader.read()

    stage.upstream.script = script
    attempt = Attempt()
    with pytest.raises(ConnectionResetError, match="the caller left"):
        async with stage.egress.send(target(f"https://{HOST}/"), "PUT", [], broken(), attempt=attempt):
            pass
    assert attempt.sent
    assert await stage.upstream.ended.get() == 1
    assert len(stage.upstream.calls) == 1


# What comes back.


async def test_an_answer_as_it_came(stage: Stage) -> None:
    """Status, reason, fields in order and case; when, and from where."""
    stage.upstream.says(
        b"HTTP/1.1 418 Short And Stout\r\nX-B: 1\r\nx-a:  \xc3\xa4\xff \r\nX-B: 2\r\nContent-Length: 2\r\n\r\nok"
    )
    answer, body = await stage.fetch()
    assert (answer.status, answer.reason, body) == (418, "Short And Stout", b"ok")
    assert answer.fields == [("X-B", "1"), ("x-a", "ä\udcff"), ("X-B", "2"), ("Content-Length", "2")]
    attempt = answer.attempt
    assert (attempt.sent, attempt.address) == (True, "127.0.0.1")
    assert all(isinstance(taken, int) and taken >= 0 for taken in (attempt.dns_ms, attempt.connect_ms, attempt.ttfb_ms))


async def test_a_redirect_is_handed_back(stage: Stage) -> None:
    """Where it leads is the caller's to judge, and ours to judge again."""
    stage.upstream.says(b"HTTP/1.1 307 X\r\nLocation: https://www.example.com/\r\nContent-Length: 0\r\n\r\n")
    answer, _ = await stage.fetch()
    assert answer.status == 307
    assert ("Location", "https://www.example.com/") in answer.fields
    assert len(stage.upstream.calls) == 1


async def test_cookies_are_not_kept(stage: Stage) -> None:
    """One subscriber's session would be the next one's."""
    stage.upstream.says(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n")
    answer, _ = await stage.fetch()
    assert ("Set-Cookie", "a=b; Path=/") in answer.fields
    await stage.fetch()
    assert not stage.upstream.calls[1].values("cookie")


@pytest.mark.parametrize("body", [gzip.compress(b"text" * 1000, mtime=0), b"no gzip at all"], ids=["gzip", "none"])
async def test_a_compressed_body_passes_as_it_is(stage: Stage, body: bytes) -> None:
    """Whether or not it is what it says."""
    stage.upstream.says(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    assert (await stage.fetch())[1] == body


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_the_environment_names_no_proxy(stage: Stage, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whoever sets one for other programs does not mean us."""
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await stage.fetch())[1] == b"ok"


async def test_a_long_field_and_many_of_them(stage: Stage) -> None:
    """Content security policies are long."""
    fields = b"".join(b"X-%d: y\r\n" % number for number in range(100))
    stage.upstream.says(b"HTTP/1.1 200 OK\r\n%bX-Long: %b\r\nContent-Length: 0\r\n\r\n" % (fields, b"x" * 20_000))
    assert (await stage.fetch())[0].fields[100] == ("X-Long", "x" * 20_000)


async def test_an_answer_that_ends_with_its_connection(stage: Stage) -> None:
    """Without a length, closing is the end."""
    stage.upstream.says(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    assert (await stage.fetch())[1] == b"all of it"


# Connections.


async def test_a_connection_is_used_again(stage: Stage) -> None:
    """For the same host in any writing; nothing is looked up or connected then, and where it leads is still known."""
    await stage.fetch(f"https://{HOST}/1")
    answer, _ = await stage.fetch("https://API.EXAMPLE.com:443/2")
    await stage.fetch(method="HEAD")
    await stage.fetch()
    assert [call.connection for call in stage.upstream.calls] == [1, 1, 1, 1]
    attempt = answer.attempt
    assert (attempt.dns_ms, attempt.connect_ms, attempt.address, attempt.sent) == (None, None, "127.0.0.1", True)
    await stage.fetch(f"https://{OTHER}/")
    assert stage.upstream.tls_names == [HOST, OTHER]


async def test_an_answer_that_was_not_read_closes_its_connection(stage: Stage) -> None:
    """What is left of it would be the next one's."""

    async def script(call: Call) -> None:
        call.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    stage.upstream.script = script
    async with stage.egress.send(target(f"https://{HOST}/"), "GET", []) as answer:
        async for piece in answer.body():
            assert piece == b"half"
            break
    assert await stage.upstream.ended.get() == 1
    stage.upstream.script = answer_ok
    assert (await stage.fetch())[1] == b"ok"
    assert stage.upstream.connections == 2


async def test_what_the_caller_raises_while_reading_is_its_own(stage: Stage) -> None:
    """Even where it is of a kind that would be mapped."""
    with pytest.raises(ConnectionResetError, match="downstream"):
        async with stage.egress.send(target(f"https://{HOST}/"), "GET", []):
            raise ConnectionResetError("downstream")


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"], ids=["no answer", "half"])
async def test_a_caller_that_leaves_closes_its_connection(stage: Stage, head: bytes) -> None:
    """Its attempt knows that it had sent something; nobody reads its body any more."""
    arrived = asyncio.Event()

    async def script(call: Call) -> None:
        call.writer.write(head)
        arrived.set()
        await call.reader.read()

    stage.upstream.script = script
    attempt, ended = Attempt(), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def ask() -> None:
        async with stage.egress.send(target(f"https://{HOST}/"), "POST", [], endless(), attempt=attempt) as answer:
            await read(answer)

    task = asyncio.create_task(ask())
    await arrived.wait()
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    assert attempt.sent
    assert await stage.upstream.ended.get() == 1


async def test_a_caller_that_leaves_before_the_connection_stands(stage: Stage) -> None:
    """Nothing was sent."""
    stage.names.dead = {HOST}
    attempt = Attempt()
    task = asyncio.create_task(stage.egress.send(target(f"https://{HOST}/"), "GET", [], attempt=attempt).__aenter__())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not attempt.sent
    assert attempt.connect_ms is None


async def test_what_nobody_asked_for_is_no_answer(stage: Stage) -> None:
    """A 408 on an idle connection would be taken for the answer of whoever comes next."""

    async def script(call: Call) -> None:
        call.writer.write(OK)
        if len(stage.upstream.calls) == 1:
            await asyncio.sleep(0.05)
            call.writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")

    stage.upstream.script = script
    await stage.fetch()
    await asyncio.sleep(0.2)
    answer, _ = await stage.fetch()
    assert answer.status == 200
    assert stage.upstream.calls[1].connection == 2


async def test_a_server_that_speaks_first(authority: trustme.CA) -> None:
    """What it says answers no question of ours: nothing is sent to it."""
    # Up to this version the server has the last word in making the connection.
    async with staged(authority, authority.issue_cert(HOST), maximum_version=ssl.TLSVersion.TLSv1_2) as stage:
        stage.upstream.greeting = OK
        failure = await stage.failure()
    assert (failure.reason, failure.status, failure.sent) == ("connection_terminated", 502, False)
    assert not stage.upstream.calls


# Nothing is sent twice.


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST"])
@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_request_without_an_answer_is_not_sent_again(
    stage: Stage, method: str, *, kept: bool, reset: bool
) -> None:
    """An attempt costs a grant; so only who has it may try again, also where HTTP allows it."""

    async def script(call: Call) -> None:
        if kept and len(stage.upstream.calls) == 1:
            call.writer.write(OK)
        elif reset:
            call.writer.transport.abort()
        else:
            call.writer.close()

    stage.upstream.script = script
    if kept:
        await stage.fetch()
    before = len(stage.upstream.calls)
    failure = await stage.failure(method=method)
    assert (failure.reason, failure.status, failure.sent) == ("connection_terminated", 502, True)
    await asyncio.sleep(0.05)
    assert len(stage.upstream.calls) == before + 1
    assert stage.upstream.connections == 1


async def test_a_kept_connection_that_was_closed_is_not_used(stage: Stage) -> None:
    """Its end was seen: the request goes out on a new one, once."""

    async def script(call: Call) -> None:
        call.writer.write(OK)
        call.writer.close()

    stage.upstream.script = script
    for number in range(3):
        await stage.fetch()
        await stage.upstream.ended.get()
        await asyncio.sleep(0.05)
        assert len(stage.upstream.calls) == number + 1
