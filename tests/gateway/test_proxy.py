"""Requests through the whole gateway: what leaves, what comes back, what is recorded of it."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from harness import eventually

from tests.gateway.gateway_stage import POLL_S, Front, open_front, saying, sized, token
from tests.gateway.tls_upstream import HOST, OTHER, Call, answer_ok


@pytest.fixture
async def front(authority: trustme.CA, gateway_url: str, tmp_path: Path) -> AsyncIterator[Front]:
    """Run a gateway whose founder may send five requests an hour."""
    async with open_front(authority, gateway_url, tmp_path, hourly_limit=5) as front:
        yield front


async def knock(front: Front, *, length: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send the head of a request whose body has a length; what comes back is read little by little."""
    port = int(front.base.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    path = f"/proxy/founder/example?url=https://{HOST}/"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token()}\r\nContent-Length: {length}\r\n\r\n"
    writer.write(head.encode())
    return reader, writer


async def test_a_request_is_sent_and_its_answer_comes_back(front: Front) -> None:
    """Byte for byte, and nothing of the gateway's own leaves."""
    bodies: list[bytes] = []

    async def script(call: Call) -> None:
        bodies.append(await call.body())
        call.writer.write(sized("201 Made", b"answer", "X-Theirs: yes", "Set-Cookie: a=b"))

    front.upstream.script = script
    told = await front.call(
        f"https://{HOST}/api/x?q=a%20b&sig=%2F+",
        body=b'{"a":1}',
        Content_Type="application/json",
        X_Upstream_Trace="t",
        Cookie="c=d",
    )
    assert (told.status, told.body) == (201, b"answer")
    assert told.headers["X-Theirs"] == "yes"
    assert "Set-Cookie" not in told.headers
    assert told.headers["Proxy-Status"] == "sovren-edge;received-status=201"
    assert told.headers["X-Gateway-RateLimit-Remaining"] == "4"
    (call,) = front.upstream.calls
    assert (call.line, bodies) == ("POST /api/x?q=a%20b&sig=%2F+ HTTP/1.1", [b'{"a":1}'])
    names = {name.lower() for name, _ in call.fields}
    assert names == {"host", "user-agent", "accept", "content-type", "content-length", "trace"}
    (row,) = await front.rows()
    assert str(row["request_id"]) == told.headers["X-Gateway-Request-Id"]
    assert (row["decision"], row["status"], row["upstream_status"], row["attempts"]) == ("settled", 201, 201, 1)
    assert (row["method"], row["host"], row["path"], row["resolved_ip"]) == ("POST", HOST, "/api/x", "127.0.0.1")
    assert (row["bytes_in"], row["bytes_out"], row["grant_charged"], row["reason"]) == (7, 6, True, "")
    assert row["total_ms"] is not None
    assert len(row["granted_us"]) == 1
    (cost,) = await front.database.fetch("SELECT * FROM api_costs")
    assert (cost["request_id"], cost["amount_microusd"], cost["source"]) == (row["request_id"], 0, "unpriced")


async def test_the_row_is_durable_before_anything_is_sent(front: Front) -> None:
    """As `reserved`: a process that dies now has forgotten nothing."""
    seen: list[str] = []

    async def script(call: Call) -> None:
        seen.extend(row["decision"] for row in await front.rows(settled=False))
        await answer_ok(call)

    front.upstream.script = script
    assert (await front.call()).status == 200
    assert seen == ["reserved"]


@pytest.mark.parametrize(
    ("asked", "status", "reason"),
    [
        ({"bearer": None}, 401, "token_missing"),
        ({"bearer": "x.y.z"}, 401, "token_malformed"),
        ({"bearer": token("somebody")}, 403, "subscriber_mismatch"),
        ({"subscriber": "nobody", "bearer": token("nobody")}, 404, "unknown_subscriber"),
        ({"subscriber": "no.body", "bearer": token("no.body")}, 404, "unknown_subscriber"),
    ],
)
async def test_who_is_not_known_leaves_no_row(
    front: Front, asked: dict[str, str | None], status: int, reason: str
) -> None:
    """Rows are of subscribers; others are counted, and told in the log."""
    told = await front.call(**asked)  # type: ignore[arg-type]
    assert (told.status, told.reason) == (status, reason)
    assert told.headers["Proxy-Status"].startswith("sovren-edge;error=http_request_denied")
    assert not front.upstream.calls
    assert not await front.rows()


@pytest.mark.parametrize(
    ("asked", "status", "reason"),
    [
        ({"service": "teams"}, 404, "unknown_service"),
        ({"url": "https://evil.example/"}, 403, "host_not_allowed"),
        ({"url": f"https://{OTHER}.evil.example/"}, 403, "host_not_allowed"),
        ({"url": f"http://{HOST}/"}, 400, "scheme_not_allowed"),
        ({"url": "https://10.0.0.1/"}, 403, "ip_prohibited"),
        ({"url": f"https://{OTHER}/", "service": "closed"}, 424, "credential_missing"),
        ({"X_Upstream_Method": "TRACE"}, 400, "upstream_method_not_allowed"),
        ({"X_Upstream_Cookie": "a"}, 400, "field_not_allowed"),
        ({"body": b"x" * (10 * 1024 * 1024 + 1)}, 413, "body_too_large"),
    ],
)
async def test_refusals_are_rows_and_cost_nothing(
    front: Front, asked: dict[str, str], status: int, reason: str
) -> None:
    """With their reason; a grant is as free as before."""
    told = await front.call(**asked)  # type: ignore[arg-type]
    assert (told.status, told.reason) == (status, reason)
    assert told.headers["RateLimit"].startswith('"subscriber-hour";r=5;')
    assert told.headers["RateLimit-Policy"] == '"subscriber-hour";q=5;w=3600'
    assert not front.upstream.calls
    (row,) = await front.rows()
    assert (row["decision"], row["status"], row["reason"], row["grant_charged"]) == ("refused", status, reason, False)
    assert row["service"] in {"example", "closed", ""}
    assert row["host"] in {HOST, OTHER, "evil.example", f"{OTHER}.evil.example", ""}


async def test_a_service_on_trial_is_called_all_the_same(front: Front) -> None:
    """And the row says why it would not have been."""
    assert (await front.call(f"https://{HOST}/", service="trial")).status == 200
    (row,) = await front.rows()
    assert (row["would_deny"], row["decision"]) == ("service_host_mismatch", "settled")


async def test_only_post_is_answered(front: Front) -> None:
    """The method that is sent stands in a field."""
    told = await front.call(method="GET")
    assert (told.status, told.reason, told.headers["Allow"]) == (405, "method_not_allowed", "POST")


async def test_old_paths_are_told_where_they_are_now(front: Front) -> None:
    """The stored portal asks here for what has moved to 8250."""
    for path in ("/executives/list?limit=5", "/deliberations/7"):
        told = await front.ask("GET", path, bearer=None)
        assert (told.status, told.reason) == (404, "moved")
        assert "8250" in str(told.json["message"])


async def test_the_hourly_limit_holds(front: Front) -> None:
    """Whoever has used it is told when to come again; it costs upstream and the database nothing."""
    for _ in range(5):
        assert (await front.call()).status == 200
    before = len(front.upstream.calls)
    for _ in range(3):
        told = await front.call()
        assert (told.status, told.reason) == (429, "hourly_limit")
        assert 3590 <= int(told.headers["Retry-After"]) <= 3600
        assert told.headers["X-RateLimit-Remaining"] == "0"
    assert len(front.upstream.calls) == before
    assert len(await front.rows()) == 5


async def test_what_never_reached_upstream_is_given_back(front: Front) -> None:
    """A name that is none, an address that is not public, nobody who listens: rows without a charge."""
    front.names.records = {(HOST, "A"): ["10.0.0.1"]}
    told = await front.call()
    assert (told.status, told.reason) == (403, "ip_prohibited")
    assert "10.0.0.1" not in told.body.decode()
    told = await front.call("https://nowhere.example.com/")
    assert (told.status, told.reason) == (502, "dns_error")
    front.names.records = {(HOST, "A"): ["127.0.0.2"]}
    told = await front.call()
    assert (told.status, told.reason) == (502, "connection_refused")
    assert told.headers["Proxy-Status"].startswith("sovren-edge;error=connection_refused")
    rows = await front.rows()
    assert [(row["decision"], row["grant_charged"], row["attempts"]) for row in rows] == [("settled", False, 1)] * 3
    assert [row["granted_us"] for row in rows] == [[None]] * 3
    front.names.records = {(HOST, "A"): ["127.0.0.1"]}
    told = await front.call()
    assert told.headers["X-Gateway-RateLimit-Remaining"] == "4"


async def test_an_answer_that_breaks_ends_broken(front: Front) -> None:
    """Never as if it were whole; the row says so, and the grant is used."""
    front.upstream.says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    with pytest.raises(Exception, match=r"(?i)payload|disconnected|closed"):
        await front.call()
    await eventually(lambda: "egress" in front.events)
    (row,) = await front.rows()
    assert (row["status"], row["reason"], row["bytes_out"]) == (200, "http_response_incomplete", 4)
    assert row["grant_charged"]


async def test_a_caller_that_leaves_ends_the_work(front: Front) -> None:
    """Upstream's connection is closed; what was sent stays charged."""
    reached = asyncio.Event()

    async def script(call: Call) -> None:
        reached.set()
        await call.reader.read()
        call.writer.close()

    front.upstream.script = script
    asking = asyncio.ensure_future(front.call())
    await reached.wait()
    asking.cancel()
    assert await front.upstream.ended.get() == 1
    await eventually(lambda: "egress" in front.events)
    (row,) = await front.rows()
    assert (row["status"], row["reason"], row["grant_charged"]) == (499, "caller_left", True)


async def test_whoever_asks_for_it_is_tried_again(front: Front) -> None:
    """As upstream wants it; each attempt that was sent costs a grant, and is in the one row."""
    answers = [sized("503 Busy", b"", "Retry-After: 0"), sized("200 OK", b"ok")]

    async def script(call: Call) -> None:
        call.writer.write(answers.pop(0))

    front.upstream.script = script
    told = await front.call(X_Upstream_Method="GET", X_Gateway_Retry="2")
    assert (told.status, told.body, told.headers["X-Gateway-RateLimit-Remaining"]) == (200, b"ok", "3")
    (row,) = await front.rows()
    assert (row["attempts"], len(row["granted_us"]), row["status"]) == (2, 2, 200)
    front.upstream.script = saying(sized("503 Busy", b"no"))
    told = await front.call(X_Upstream_Method="GET", X_Gateway_Retry="1")
    assert (told.status, told.body) == (503, b"no")
    assert told.headers["Proxy-Status"] == "sovren-edge;received-status=503"


async def test_a_retry_without_a_grant_is_none(front: Front) -> None:
    """The answer that is there is passed on."""
    front.upstream.script = saying(sized("503 Busy", b"no"))
    for _ in range(2):
        await front.call(X_Upstream_Method="GET", X_Gateway_Retry="1")
    told = await front.call(X_Upstream_Method="GET", X_Gateway_Retry="2")
    assert (told.status, told.headers["X-Gateway-RateLimit-Remaining"]) == (503, "0")
    assert len(front.upstream.calls) == 5


async def test_redirects_and_heads_are_handed_back(front: Front) -> None:
    """Nothing is followed; a HEAD's length is told beside, for the answer here is to a POST."""
    front.upstream.script = saying(sized("302 Found", b"", "Location: http://127.0.0.1/secret"))
    told = await front.call()
    assert (told.status, told.headers["Location"]) == (302, "http://127.0.0.1/secret")
    front.upstream.script = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
    told = await front.call(X_Upstream_Method="HEAD")
    assert (told.status, told.body, told.headers["X-Gateway-Content-Length"]) == (200, b"", "1234")
    front.upstream.script = saying(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert (await front.call()).status == 204


async def test_upstreams_own_limits_pass_beside_ours(front: Front) -> None:
    """Under their own names, unchanged."""
    front.upstream.script = saying(sized("200 OK", b"", "RateLimit: x;r=7", "X-RateLimit-Limit: 9"))
    told = await front.call()
    assert (told.headers["RateLimit"], told.headers["X-RateLimit-Limit"]) == ("x;r=7", "9")
    assert told.headers["X-Gateway-RateLimit-Limit"] == "5"


async def test_no_secret_is_in_the_log(front: Front) -> None:
    """Neither a token, nor a body, nor a query's values."""
    secret = "s3cr3t" + "value"
    await front.call(f"https://{HOST}/?key={secret}", body=secret.encode(), X_Upstream_Authorization=f"Bearer {secret}")
    await front.call(f"https://evil.example/?key={secret}")
    await eventually(lambda: front.events.count("egress") == 2)
    assert secret not in str(front.log.calls)
    assert not await front.rows(f"path LIKE '%{secret}%'")


async def test_refusals_have_a_limit_of_their_own(front: Front) -> None:
    """After 300 in an hour nothing is looked at any more, nor written as a row of its own."""
    for _ in range(300):
        assert (await front.call("https://evil.example/")).status == 403
    told = await front.call("https://evil.example/")
    assert (told.status, told.reason) == (429, "refusal_limit")
    assert int(told.headers["Retry-After"]) > 3000
    assert len(await front.rows()) == 300


async def test_a_caller_that_has_all_and_leaves_at_once_was_served(front: Front) -> None:
    """Its request is one that was answered, in all counters."""
    for _ in range(4):
        reader, writer = await knock(front)
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.transport.abort()
    rows = await front.rows()
    assert [(row["status"], row["reason"]) for row in rows] == [(200, "")] * 4
    await eventually(lambda: len(front.statuses) == 4)
    assert front.statuses == [200] * 4


async def test_a_body_goes_on_as_it_is(front: Front) -> None:
    """Also one that is compressed: it is nobody's business what is in it."""
    bodies: list[bytes] = []

    async def script(call: Call) -> None:
        bodies.append(await call.body())
        await answer_ok(call)

    front.upstream.script = script
    packed = gzip.compress(b"a body that says the same again and again, again and again")
    assert (await front.call(body=packed, Content_Encoding="gzip")).status == 200
    assert bodies == [packed]
    (row,) = await front.rows()
    assert row["bytes_in"] == len(packed)


async def test_a_caller_that_does_not_read_holds_nothing_for_long(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is broken off when the request's time is over, and its grant and its place are free."""

    async def script(call: Call) -> None:
        # From here on, so that the time is not over before the answer has begun.
        monkeypatch.setattr("sovren_edge.gateway.proxy.sending.TOTAL_S", 0.2)
        await saying(sized("200 OK", b"x" * (40 << 20)))(call)

    front.upstream.script = script
    reader, writer = await knock(front)
    await reader.readuntil(b"\r\n\r\n")
    await eventually(lambda: "egress" in front.events)
    (row,) = await front.rows()
    assert (row["status"], row["reason"], row["grant_charged"]) == (200, "caller_too_slow", True)
    writer.transport.abort()


async def test_a_caller_that_leaves_between_two_attempts_pays_for_one(front: Front) -> None:
    """The next one's grant has sent nothing."""
    front.upstream.script = saying(sized("503 Busy", b"no", "Retry-After: 20"))
    asking = asyncio.ensure_future(front.call(X_Upstream_Method="GET", X_Gateway_Retry="1"))
    await eventually(lambda: front.upstream.calls)
    while await used(front) < 2:  # noqa: ASYNC110 - a grant has no event
        await asyncio.sleep(POLL_S)
    asking.cancel()
    await eventually(lambda: "egress" in front.events)
    (row,) = await front.rows()
    assert (row["attempts"], row["reason"], [one is None for one in row["granted_us"]]) == (
        2, "caller_left", [False, True],
    )  # fmt: skip
    assert len(front.upstream.calls) == 1


async def used(front: Front) -> int:
    """Return how much of the hour is used."""
    quota = (await front.ask("GET", "/usage/founder")).json["quota"]
    assert isinstance(quota, dict)
    return int(quota["used"])


def inside(front: Front) -> float:
    """Return how many requests have come and are not recorded as ended."""
    return front.edge.metrics.registry.get_sample_value("gateway_requests_inflight") or 0.0


async def test_callers_that_leave_early_are_counted_and_not_written_one_by_one(front: Front) -> None:
    """A head and nothing more costs no row."""
    for _ in range(5):
        _, writer = await knock(front, length=9)
        await eventually(lambda: inside(front) > 0)
        writer.transport.abort()
    await eventually(lambda: len(front.statuses) == 5)
    assert not await front.rows()


async def test_bodies_of_one_subscriber_do_not_take_all_the_room(front: Front) -> None:
    """Ten at once, as requests may be in flight; one more, whichever comes last, is told so."""
    callers = [await knock(front, length=9) for _ in range(11)]
    heads = [asyncio.ensure_future(reader.readuntil(b"\r\n\r\n")) for reader, _ in callers]
    (told,), held = await asyncio.wait(heads, return_when=asyncio.FIRST_COMPLETED)
    assert told.result().startswith(b"HTTP/1.1 429 ")
    reader, _ = callers[heads.index(told)]
    assert b'"reason":"too_many_in_flight"' in await reader.readuntil(b"}")
    await eventually(lambda: inside(front) == 10)
    for _, writer in callers:
        writer.transport.abort()
    await asyncio.wait(held)
    assert all(isinstance(head.exception(), OSError | asyncio.IncompleteReadError) for head in held)
