"""Bytes that nobody foresaw: at both parsers' entry points, and on whole connections, in any slices.

Nothing but the errors of ours is ever raised, nothing hangs, counters return to zero, a refusal closes, and what is
accepted is what llhttp reads.
"""

import asyncio
from types import SimpleNamespace

import pytest
from harness import Front, backend, eventually, front, make_pool, read_request
from hypothesis import strategies as st
from mutants import load, mutants, slices, try_out, try_out_here

from sovren_edge.http.framing import ChunkedReader, FramingError, SizedReader, UntilCloseReader
from sovren_edge.http.request import Caller, HeadError, RequestHead, forward_request, parse_request
from sovren_edge.http.response import ResponseError, parse_response
from sovren_edge.relay.settings import RelaySettings
from tests.http.messages import up_to_empty_line
from tests.http.oracle import hear_request, hear_response, joined

PARSED, CONNECTED = 300, 80
SWITCHED, NO_CONTENT, NOT_MODIFIED = 101, 204, 304
# Why a request is answered by the edge itself.
REASONS = {
    *("malformed_request", "malformed_body", "unknown_method", "unsupported_method", "unsupported_version"),
    *("unsupported_coding", "expectation_failed", "head_too_large", "target_too_long", "head_timeout", "body_timeout"),
    *("upstream_failed", "upstream_timeout", "no_endpoint_ready"),
}
BODILESS = {NO_CONTENT, NOT_MODIFIED}
QUICK = RelaySettings(head_timeout_s=0.1, keepalive_timeout_s=0.1, first_byte_timeout_s=0.1, idle_timeout_s=0.1)


def framing(request: RequestHead) -> tuple[str, bytes, int, bool]:
    """Return what must survive forwarding."""
    return request.method, request.target, request.length, request.chunked


def check_request(data: bytes) -> None:
    """Read a head; forward it and read that, as an endpoint would."""
    head = up_to_empty_line(data)
    try:
        request = parse_request(head, trusted=False)
    except HeadError:
        return
    heard = hear_request(head)
    assert request.length == int(joined(heard.fields, b"content-length") or b"0")
    assert request.chunked is bool(joined(heard.fields, b"transfer-encoding"))
    size = None if request.chunked else request.length
    caller = Caller(b"10.0.0.9", b"http")
    sent = forward_request(
        request, caller=caller, endpoint=b"endpoint:1", body_size=size, request_id=b"id-1", trace=request.trace
    )
    assert framing(parse_request(sent, trusted=True)) == framing(request)
    assert hear_request(sent).url == request.target


def check_response(pieces: list[bytes]) -> None:
    """Read an answer in these pieces; what is whole is what llhttp reads."""
    head, _, behind = b"".join(pieces).partition(b"\r\n\r\n")
    try:
        response = parse_response(head + b"\r\n\r\n")
        if response.status < NO_CONTENT or response.status in BODILESS or not (response.chunked or response.length):
            return
        reader = ChunkedReader() if response.chunked else SizedReader(response.length or 0)
        body = b""
        rest = behind
        while rest and not reader.done:
            step = min(len(rest), 1 + len(pieces[0]))
            got, left = reader.feed(rest[:step])
            body += b"".join(got)
            rest = left + rest[step:]
    except (ResponseError, FramingError):
        return
    if reader.done and b";" not in behind:  # llhttp reads extensions more closely; both drop them
        heard = hear_response(head + b"\r\n\r\n" + behind.removesuffix(rest))
        assert heard.complete
        assert heard.body == body


def test_heads_of_requests() -> None:
    """What is accepted is forwarded as it was read."""
    for message in load("requests"):
        check_request(message)
    try_out(mutants("requests"), check_request, PARSED)


def test_answers() -> None:
    """However they are sliced."""
    for message in load("responses"):
        check_response([message])
    try_out(slices(mutants("responses")), check_response, PARSED)


def count_whole(data: bytes, lines: list[SimpleNamespace]) -> int:
    """Return how many whole answers a caller got; fail if there is anything else but a last one that broke."""
    whole = 0
    while data:
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            return whole
        response = parse_response(head + found)
        data = rest
        if response.interim:
            continue
        assert whole < len(lines), "an answer to nothing"
        reader = response.reader(lines[whole].method)
        while data and not reader.done:
            _, data = reader.feed(data)
        if isinstance(reader, UntilCloseReader):
            return whole + 1
        if response.status == SWITCHED or not reader.done:
            return whole
        whole += 1
    return whole


Talk = tuple[list[bytes], list[bytes], bool]


async def check_connection(talk: Talk) -> None:
    """Say these bytes to the edge, and these as its endpoint."""
    asked, answered, closes = talk

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closed = False
        while not closed:
            await read_request(reader)
            for piece in answered:
                writer.write(piece)
                await asyncio.sleep(0)
            closed = closes

    async with backend(raw=answer) as one, front(make_pool("p", [one.port]), settings=QUICK) as edge:
        got, reset = await converse(edge, asked)
        await eventually(lambda: edge.at_rest and not edge.relay.downstreams)
        assert edge.pools[0].endpoints[0].inflight == 0
        assert edge.door.stats.connections == 0
        judge(edge, got, reset=reset)


async def converse(edge: Front, asked: list[bytes]) -> tuple[bytes, bool]:
    """Send all, and read until the edge closes, which its time-outs make it do; say whether it was a reset."""
    got = b""
    reader, writer = await edge.connect()
    try:
        for piece in asked:
            writer.write(piece)
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            while piece := await reader.read(1 << 16):
                got += piece
    except ConnectionError:
        return got, True
    finally:
        writer.close()
    return got, False


def judge(edge: Front, got: bytes, *, reset: bool) -> None:
    """Hold what the caller got against the log: as many whole answers as it says, and nothing behind a refusal."""
    assert not any(line.method == "-" for line in edge.lines[:-1]), "a request was read behind a refusal"
    if reset:
        return
    complete = sum(line.ended == "complete" for line in edge.lines)
    # What an endpoint broke is not whole, whatever its status.
    ours = sum(line.ended in REASONS for line in edge.lines)
    assert complete <= count_whole(got, edge.lines) <= complete + ours


async def test_connections() -> None:
    """Whatever both sides say."""
    strays: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: strays.append(context))
    talks = st.tuples(slices(mutants("requests")), slices(mutants("responses")), st.sampled_from([True, True, False]))
    for message in load("responses"):
        await check_connection(([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], [message], True))
    await try_out_here(talks, check_connection, CONNECTED)
    assert not strays


@pytest.mark.parametrize("sent", [b"", b"\r\n" * 1000])
async def test_silence_ends(sent: bytes) -> None:
    """Nothing but empty lines is nothing."""
    async with backend(lambda _h, _b: b"") as one, front(make_pool("p", [one.port]), settings=QUICK) as edge:
        assert await edge.call(sent) == b""
