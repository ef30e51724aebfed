"""The table of an endpoint's answers that could be read in two ways: what its caller gets, and why.

A refused answer is a 502; none of its bytes reaches the caller, and its connection serves nobody else.
"""

import asyncio

import orjson
import pytest
from harness import backend, eventually, front, make_pool, read_request
from tables import rows

OK = b"HTTP/1.1 200 OK\r\n"
SIZED = b"Content-Length: 5\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
FIVE = b"5\r\nhello\r\n0\r\n\r\n"
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

REFUSED = [
    (OK + SIZED + CHUNKED + b"\r\n" + FIVE, "two framings: RFC 9112 6.3"),
    (OK + SIZED + SIZED + b"\r\nhello", "two lengths"),
    (OK + SIZED + b"Content-Length: 6\r\n\r\nhello", "two that disagree: RFC 9112 6.3 asks for the 502"),
    (OK + b"Content-Length: 5, 5\r\n\r\nhello", "a list of lengths"),
    (OK + b"Content-Length: +5\r\n\r\nhello", "a sign"),
    (OK + b"Content-Length: -5\r\n\r\nhello", "or this one"),
    (OK + b"Content-Length: 0x5\r\n\r\nhello", "not decimal"),
    (OK + b"Content-Length:\r\n\r\nhello", "no digit"),
    (OK + b"Content-Length: 18446744073709551621\r\n\r\nhello", "5 where it overflows"),
    (OK + CHUNKED + CHUNKED + b"\r\n" + FIVE, "chunked twice"),
    (OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + FIVE, "chunked is not last"),
    (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + FIVE, "a coding that we lack, and the caller did not ask for"),
    (OK + b"Transfer-Encoding: xchunked\r\n\r\n" + FIVE, "not chunked to all"),
    (OK + b"Transfer-Encoding: identity\r\n" + SIZED + b"\r\nhello", "obsolete"),
    (OK + b"Transfer-Encoding : chunked\r\n\r\n" + FIVE, "space before the colon: RFC 9112 5.1"),
    (b"HTTP/1.0 200 OK\r\n" + CHUNKED + b"\r\n" + FIVE, "HTTP/1.0 knows no codings"),
    (OK + b"A: b\r\n c\r\n" + SIZED + b"\r\nhello", "obs-fold: RFC 9112 5.2 leaves us the choice"),
    (OK + b"A: b\nSet-Cookie: c\r\n" + SIZED + b"\r\nhello", "response splitting by a line feed"),
    (OK + b"A: b\rSet-Cookie: c\r\n" + SIZED + b"\r\nhello", "or a carriage return"),
    (b"HTTP/1.1 200 OK\n" + SIZED + b"\r\nhello", "a line feed behind the status line"),
    (OK + b"A: \x00\r\n" + SIZED + b"\r\nhello", "NUL"),
    (OK + b"A: \x1b\r\n" + SIZED + b"\r\nhello", "a control character"),
    (OK + b"A b: c\r\n" + SIZED + b"\r\nhello", "a name that is no token"),
    (OK + b"A\r\n" + SIZED + b"\r\nhello", "no colon"),
    (b"HTTP/1.1 200 O\x00K\r\n" + SIZED + b"\r\nhello", "a control character in the phrase"),
    (b"HTTP/1.1  200 OK\r\n" + SIZED + b"\r\nhello", "two spaces"),
    (b"HTTP/1.1 20 OK\r\n" + SIZED + b"\r\nhello", "two digits"),
    (b"HTTP/1.1 2000 OK\r\n" + SIZED + b"\r\nhello", "four"),
    (b"HTTP/1.1 +20 OK\r\n" + SIZED + b"\r\nhello", "a sign"),
    (b"HTTP/1.1 000 OK\r\n" + SIZED + b"\r\nhello", "no class"),
    (b"HTTP/2.0 200 OK\r\n" + SIZED + b"\r\nhello", "another version"),
    (b"HTTP/0.9 200 OK\r\n" + SIZED + b"\r\nhello", "or this one"),
    (b"ICY 200 OK\r\n" + SIZED + b"\r\nhello", "another protocol"),
    (b"<html>hello</html>\r\n\r\n", "HTTP/0.9"),
    (b" HTTP/1.1 200 OK\r\n" + SIZED + b"\r\nhello", "a space before it"),
    (b"\r\n" + OK + SIZED + b"\r\nhello", "an empty line before it"),
    (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: upgrade\r\n\r\nfoo", "nobody asked for it"),
    (b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK + SIZED + b"\r\nhello", "one that says nothing"),
    (OK + b"A: b\r\n" * 101 + SIZED + b"\r\nhello", "more than a hundred fields"),
    (OK + b"Connection: " + b"a," * 101 + b"\r\n" + SIZED + b"\r\nhello", "or names of such"),
    (OK + b"A: " + b"x" * 32768 + b"\r\n" + SIZED + b"\r\nhello", "a head of more than 32 KiB"),
    (b"\x15\x03\x03\x00\x02\x02\x46\r\n\r\n", "TLS where plain HTTP was expected"),
]  # fmt: skip

# What the endpoint says, the head that its caller gets (without our fields), and the body.
PASSED = [
    ("GET", OK + SIZED + b"\r\nhello", OK + SIZED, b"hello", True, "a length"),
    ("GET", OK + CHUNKED + b"\r\n" + FIVE, OK + CHUNKED, FIVE, True, "chunks"),
    ("GET", OK + CHUNKED + b"\r\n5;a=b\r\nhello\r\n0\r\nT: u\r\nContent-Length: 9\r\n\r\n", OK + CHUNKED, FIVE, True,
     "extensions and trailers end here: RFC 9112 7.1"),
    ("GET", b"HTTP/1.1 204 No Content\r\n" + SIZED + b"\r\n", b"HTTP/1.1 204 No Content\r\n", b"", True,
     "204 has no length: RFC 9110 8.6"),
    ("GET", b"HTTP/1.1 204 No Content\r\n" + CHUNKED + b"\r\n", b"HTTP/1.1 204 No Content\r\n", b"", True,
     "nor a coding: RFC 9112 6.1"),
    ("GET", b"HTTP/1.1 304 Not Modified\r\n" + SIZED + b"\r\n", b"HTTP/1.1 304 Not Modified\r\n" + SIZED, b"", True,
     "304 says what GET would have brought: RFC 9110 8.6"),
    ("HEAD", OK + SIZED + b"\r\n", OK + SIZED, b"", True, "so does an answer to HEAD"),
    ("HEAD", OK + CHUNKED + b"\r\n", OK, b"", True, "which has no body: RFC 9112 6.3"),
    ("GET", OK + b"Connection: content-length, A\r\nA: b\r\n" + SIZED + b"\r\nhello", OK + SIZED, b"hello", True,
     "the length cannot be nominated away, other fields can"),
    ("GET", OK + b"Keep-Alive: 5\r\nUpgrade: foo\r\nTE: x\r\n" + SIZED + b"\r\nhello", OK + SIZED, b"hello", True,
     "fields of one hop end here: RFC 9110 7.6.1"),
    ("GET", b"HTTP/1.1 200\r\n" + SIZED + b"\r\nhello", b"HTTP/1.1 200\r\n" + SIZED, b"hello", True, "no phrase"),
    ("GET", b"HTTP/1.1 299 \xc3\xa9\r\n" + SIZED + b"\r\nhello", b"HTTP/1.1 299 \xc3\xa9\r\n" + SIZED, b"hello", True,
     "a status and a phrase of the endpoint's own"),
    ("GET", OK + b"Connection: close\r\n" + SIZED + b"\r\nhello", OK + SIZED, b"hello", False, "the last one"),
    ("GET", b"HTTP/1.0 200 OK\r\n" + SIZED + b"\r\nhello", OK + SIZED, b"hello", False, "HTTP/1.0"),
    ("GET", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + SIZED + b"\r\nhello", OK + SIZED, b"hello", True,
     "HTTP/1.0 that goes on"),
    ("GET", b"HTTP/1.1 100 Continue\r\n\r\n" + OK + SIZED + b"\r\nhello", OK + SIZED, b"hello", True,
     "100 is for the hop that expects it: RFC 9110 10.1.1"),
    # More than was promised: answered, but nobody trusts what follows.
    ("GET", OK + SIZED + b"\r\nhello" + POISON, OK + SIZED, b"hello", False, "another answer behind it"),
    ("GET", OK + SIZED + b"\r\nhello!", OK + SIZED, b"hello", False, "a byte too many"),
    ("GET", OK + CHUNKED + b"\r\n" + FIVE + POISON, OK + CHUNKED, FIVE, False, "behind chunks"),
    ("HEAD", OK + SIZED + b"\r\nhello", OK + SIZED, b"", False, "a body where none may be"),
    ("GET", b"HTTP/1.1 204 No Content\r\n\r\nhello", b"HTTP/1.1 204 No Content\r\n", b"", False, "behind 204"),
    ("GET", b"HTTP/1.1 304 Not Modified\r\n" + CHUNKED + b"\r\n" + FIVE, b"HTTP/1.1 304 Not Modified\r\n", b"", False,
     "behind 304"),
]  # fmt: skip

# Answers that break when they have begun.
BROKEN = [
    (OK + SIZED + b"\r\nhell", "shorter than promised"),
    (OK + CHUNKED + b"\r\n5\r\nhello\r\n", "no last chunk"),
    (OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\n", "no empty line behind it"),
    (OK + CHUNKED + b"\r\n5\r\nhello\r\n0\r\nA b\r\n\r\n", "a malformed trailer"),
    (OK + CHUNKED + b"\r\n5\r\nhello\r\n+0\r\n\r\n", "a malformed size"),
    (OK + CHUNKED + b"\r\n5\r\nhello\n0\r\n\r\n", "a line feed alone"),
]


def without_ours(head: bytes) -> list[bytes]:
    """Return a head's lines, but for what the edge adds."""
    ours = (b"via: ", b"x-request-id: ")
    line, *fields = head.removesuffix(b"\r\n").split(b"\r\n")
    return [line, *sorted(field for field in fields if not field.lower().startswith(ours))]


@pytest.mark.parametrize("answer", rows(REFUSED))
async def test_answers_that_are_refused(answer: bytes) -> None:
    """One that cannot be read is none."""
    async with backend(lambda _h, _b: answer) as one, front(make_pool("p", [one.port])) as edge:
        head, _, body = (await edge.call(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).partition(
            b"\r\n\r\n"
        )
        await eventually(lambda: not one.open)
    assert head.startswith(b"HTTP/1.1 502 ")
    problem = orjson.loads(body)
    assert problem["reason"] == "upstream_failed"
    assert b"hello" not in body


@pytest.mark.parametrize(("method", "answer", "head", "body", "kept"), rows(PASSED))
async def test_answers_that_are_passed_on(*, method: str, answer: bytes, head: bytes, body: bytes, kept: bool) -> None:
    """As they are read; the connection they came on is used again only where nothing is in doubt."""
    request = b"%s / HTTP/1.1\r\nHost: a\r\n\r\n" % method.encode()
    async with backend(lambda _h, _b: answer) as one, front(make_pool("p", [one.port])) as edge:
        reader, writer = await edge.connect()
        for _ in range(2):
            writer.write(request)
            got = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            assert without_ours(got.removesuffix(b"\r\n")) == without_ours(head)
            assert await asyncio.wait_for(reader.readexactly(len(body)), 30) == body
        writer.close()
    assert one.connections == (1 if kept else 2)


@pytest.mark.parametrize("answer", rows(BROKEN))
async def test_answers_that_break(answer: bytes) -> None:
    """They end without the sign that would make them whole."""

    async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    async with backend(raw=breaking) as one, front(make_pool("p", [one.port])) as edge:
        head, _, body = (await edge.call(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")).partition(b"\r\n\r\n")
        await eventually(lambda: edge.lines)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert not body.endswith(b"0\r\n\r\n")
    assert len(body) < 5 or b"chunked" in head
    assert edge.lines[0].ended.startswith("upstream broke")


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_interim_answers(version: bytes) -> None:
    """All before the final one, in order, without what has no place in them; an HTTP/1.0 caller knows none."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: A\r\nA: b\r\n" + SIZED + b"\r\n"
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + hints + b"HTTP/1.1 100 Continue\r\n\r\n"
    final = OK + SIZED + b"\r\nhello"
    async with backend(lambda _h, _b: interim + final) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(b"GET / HTTP/%s\r\nHost: a\r\nConnection: close\r\n\r\n" % version)
    *before, last, body = answer.split(b"\r\n\r\n")
    heard = [without_ours(head) for head in before]
    expected = [[b"HTTP/1.1 102 Processing"], [b"HTTP/1.1 103 Early Hints", b"Link: </a>"]]
    assert heard == (expected if version == b"1.1" else [])
    assert without_ours(last) == [b"HTTP/1.1 200 OK", b"Connection: close", b"Content-Length: 5"]
    assert body == b"hello"


async def test_interim_answers_without_a_final_one() -> None:
    """Are none: the caller is told."""

    async def promising(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await writer.drain()

    async with backend(raw=promising) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 103 Early Hints\r\n")
    assert b"\r\n\r\nHTTP/1.1 502 " in answer


async def test_an_answer_that_nobody_asked_for_is_given_to_nobody() -> None:
    """Response queue poisoning: bytes on an idle connection end it."""
    async with backend(lambda _h, _b: OK + SIZED + b"\r\nhello") as one, front(make_pool("p", [one.port])) as edge:
        get = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        assert (await edge.call(get)).endswith(b"hello")
        one.writers[0].write(POISON)
        await eventually(lambda: not edge.relay.connections.all)
        assert (await edge.call(get)).endswith(b"hello")
    assert one.connections == 2
