"""Idempotency keys and stored credentials through the whole gateway."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from sovren_edge.gateway.credentials.oauth import OAuthSecret
from sovren_edge.gateway.credentials.sealing import Sealer, read_keys
from sovren_edge.gateway.credentials.store import CredentialStore, HeaderSecret, Purpose
from sovren_edge.gateway.ledger.replays import LONGEST_BODY
from tests.gateway.gateway_stage import KEYS, Front, open_front, saying, sized
from tests.gateway.tls_upstream import HOST, OTHER, Call

STORE = CredentialStore(lambda: Sealer(read_keys(KEYS)))


@pytest.fixture
async def front(authority: trustme.CA, gateway_url: str, tmp_path: Path) -> AsyncIterator[Front]:
    """Run a gateway."""
    async with open_front(authority, gateway_url, tmp_path, hourly_limit=5) as front:
        yield front


async def test_a_key_is_answered_again_and_sent_once(front: Front) -> None:
    """Without a grant and without a cost; the answer says that it is an old one."""
    front.upstream.script = saying(sized("201 Made", b"first", "X-Theirs: yes"))
    first = await front.call(body=b"x", Idempotency_Key="k1")
    (row,) = await front.rows()
    again = await front.call(body=b"x", Idempotency_Key="k1")
    assert (first.status, first.body) == (again.status, again.body) == (201, b"first")
    assert again.headers["X-Theirs"] == "yes"
    assert (again.headers["Idempotency-Replayed"], again.headers["X-Gateway-RateLimit-Remaining"]) == ("true", "4")
    assert "Idempotency-Replayed" not in first.headers
    assert len(front.upstream.calls) == 1
    assert front.upstream.calls[0].values("idempotency-key") == ["k1"]
    _, replayed = await front.rows()
    assert (replayed["idempotent_replay"], replayed["grant_charged"], replayed["decision"]) == (True, False, "settled")
    assert (replayed["status"], replayed["attempts"]) == (201, 0)
    costs = await front.database.fetch("SELECT request_id FROM api_costs")
    assert [cost["request_id"] for cost in costs] == [row["request_id"]]


async def test_a_key_is_for_one_request(front: Front) -> None:
    """Another body, URL or method under it is refused; other services and subscribers have keys of their own."""
    assert (await front.call(body=b"x", Idempotency_Key="k1")).status == 200
    for asked in (
        {"body": b"y"},
        {"body": b"x", "X_Upstream_Method": "PUT"},
        {"url": f"https://{HOST}/y", "body": b"x"},
    ):
        told = await front.call(Idempotency_Key="k1", **asked)  # type: ignore[arg-type]
        assert (told.status, told.reason) == (422, "idempotency_key_reused")
    told = await front.call(f"https://{OTHER}/", service="closed", Idempotency_Key="k1", X_Upstream_Authorization="a")
    assert told.status == 200
    told = await front.call(Idempotency_Key="k\u00e9")
    assert told.status == 400


async def test_a_key_in_flight_is_not_sent_twice(front: Front) -> None:
    """Whoever asks meanwhile is told so."""
    reached, gate = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        reached.set()
        await gate.wait()
        call.writer.write(sized("200 OK", b"slow"))

    front.upstream.script = script
    first = asyncio.ensure_future(front.call(Idempotency_Key="k"))
    await reached.wait()
    told = await front.call(Idempotency_Key="k")
    assert (told.status, told.reason) == (409, "idempotency_in_flight")
    gate.set()
    assert (await first).body == b"slow"


async def test_a_key_whose_outcome_nobody_knows_is_never_sent_again(front: Front) -> None:
    """But one of which nothing was sent is free."""
    told = await front.call("https://nowhere.example.com/", Idempotency_Key="k1")
    assert told.status == 502
    await front.rows()
    told = await front.call(Idempotency_Key="k1")
    assert told.status == 200
    front.upstream.says(b"")
    told = await front.call(Idempotency_Key="k2")
    assert told.status == 502
    await front.rows()
    before = len(front.upstream.calls)
    told = await front.call(Idempotency_Key="k2")
    assert (told.status, told.reason) == (409, "idempotency_outcome_unknown")
    assert len(front.upstream.calls) == before


async def test_an_answer_that_is_too_long_to_keep_is_given_once(front: Front) -> None:
    """And its key is never sent again."""
    front.upstream.script = saying(sized("200 OK", b"x" * (LONGEST_BODY + 1)))
    assert len((await front.call(Idempotency_Key="k")).body) == LONGEST_BODY + 1
    told = await front.call(Idempotency_Key="k")
    assert (told.status, told.reason) == (409, "idempotency_answer_not_kept")
    assert len(front.upstream.calls) == 1


async def test_a_stored_credential_is_sent_and_nothing_overrides_it(front: Front) -> None:
    """To exactly its host; to others of the service the caller's own goes, if it brings one."""
    secret = HeaderSecret("Bearer stored")
    await STORE.put(front.database, Purpose("founder", "example", HOST), "Authorization", secret)
    await front.call(X_Upstream_Authorization="Bearer mine")
    await front.call(f"https://{OTHER}/", X_Upstream_Authorization="Bearer mine")
    await front.call(f"https://{OTHER}/")
    given = [call.values("authorization") for call in front.upstream.calls]
    assert given == [["Bearer stored"], ["Bearer mine"], []]
    assert "stored" not in str(front.log.calls)


async def test_a_refused_token_is_renewed_once(front: Front) -> None:
    """Only where sending twice is no more than sending once; both attempts cost a grant."""
    secret = OAuthSecret(
        token_url=f"https://{OTHER}/token", client_id="us", client_secret="s", refresh_token="r",
        access_token="old", obtained_at=0.0, lifetime_s=None,
    )  # fmt: skip
    await STORE.put(front.database, Purpose("founder", "example", HOST), "Authorization", secret)

    async def script(call: Call) -> None:
        await call.body()
        if call.line.startswith("POST /token"):
            fields = "Content-Type: application/json"
            call.writer.write(sized("200 OK", b'{"access_token":"new","token_type":"bearer"}', fields))
        else:
            good = call.values("authorization") == ["Bearer new"]
            call.writer.write(sized("200 OK" if good else "401 No", b"x"))

    front.upstream.script = script
    told = await front.call()
    assert (told.status, told.headers["X-Gateway-RateLimit-Remaining"]) == (401, "4")
    told = await front.call(X_Upstream_Method="GET")
    assert (told.status, told.headers["X-Gateway-RateLimit-Remaining"]) == (200, "2")
    told = await front.call()
    assert told.status == 200
