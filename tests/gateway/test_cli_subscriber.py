"""The commands that say who may call: a real database, and a gateway that does as they say."""

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest
import trustme
from click.testing import Result

from sovren_edge.gateway.migrations import HISTORY
from sovren_edge.local.postgres import run_postgres
from sovren_edge.store.database import Database
from sovren_edge.store.migrations import migrate
from tests.gateway.commands import Call, caller, fault, settle
from tests.gateway.gateway_stage import open_front, token

CONFIG = """
[database]
url = "env:DATABASE_URL"

[gateway]
hourly_limit = 60
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateway_url: str) -> Call:
    """Return a way to call `subscriber` in a directory with a configuration, over an empty database."""
    settle(tmp_path, monkeypatch, gateway_url, CONFIG)
    return caller("subscriber")


def said(result: Result) -> str:
    """Return the one line of a command that was obeyed."""
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert result.stdout.count("\n") == 1
    return result.stdout.strip()


def listed(call: Call) -> dict[str, int | None]:
    """Return who is a subscriber, each with a limit of its own."""
    rows = json.loads(call("list", "--json").stdout)
    assert all(row["created_at"].endswith("+00:00") for row in rows)
    return {row["subscriber"]: row["hourly_limit"] for row in rows}


def test_a_subscriber_is_added_once(call: Call) -> None:
    """Again changes nothing, but for a limit that is given; what was done is told."""
    assert said(call("add", "ann")) == "added ann: 60 requests an hour, as everybody"
    assert said(call("add", "bob", "--hourly-limit", "5")) == "added bob: 5 requests an hour"
    kept = "nothing to do: bob is a subscriber already, 5 requests an hour"
    assert said(call("add", "bob")) == kept
    assert said(call("add", "bob", "--hourly-limit", "5")) == kept
    assert said(call("add", "ann")) == "nothing to do: ann is a subscriber already, 60 requests an hour, as everybody"
    changed = said(call("add", "ann", "--hourly-limit", "100000"))
    assert changed == "ann was a subscriber already, and is limited anew: 100000 requests an hour"
    assert listed(call) == {"ann": 100_000, "bob": 5}
    table = call("list").stdout.splitlines()
    assert table[0].split() == ["subscriber", "hourly_limit", "created_at"]
    assert [line.split()[:2] for line in table[1:]] == [["ann", "100000"], ["bob", "5"]]


def test_a_limit_is_set_and_taken_back(call: Call) -> None:
    """To one of its own, or to everybody's."""
    call("add", "ann")
    assert said(call("limit", "ann", "5")) == "ann: 5 requests an hour"
    assert listed(call) == {"ann": 5}
    assert said(call("limit", "ann", "default")) == "ann: 60 requests an hour, as everybody"
    assert listed(call) == {"ann": None}
    assert call("list").stdout.splitlines()[1].split()[:2] == ["ann", "default"]


async def test_who_is_removed_leaves_its_rows(call: Call, database: Database) -> None:
    """In the ledger, and its credentials, of which it is warned."""
    await asyncio.to_thread(call, "add", "ann")
    await database.execute(
        "INSERT INTO api_requests (request_id, created_at, owner, subscriber_id, service, method, host, path, decision)"
        " VALUES (gen_random_uuid(), now(), 'x', 'ann', 'slack', 'POST', 'slack.com', '/', 'settled')"
    )
    assert said(await asyncio.to_thread(call, "remove", "ann")) == (
        "removed ann; what was recorded of its requests stays in the ledger"
    )
    assert await database.fetchval("SELECT count(*) FROM api_requests WHERE subscriber_id = 'ann'") == 1
    assert "no subscriber ann" in fault(await asyncio.to_thread(call, "remove", "ann"))
    await asyncio.to_thread(call, "add", "ann")
    await database.execute(
        "INSERT INTO credentials (subscriber_id, service, host, kind, header, sealed, key_name)"
        " VALUES ('ann', 'slack', 'slack.com', 'header', 'Authorization', 'x', 'one')"
    )
    result = await asyncio.to_thread(call, "remove", "ann")
    assert (result.exit_code, result.stderr) == (
        0, "Warning: 1 credentials of ann stay, see `sovren-edge credential`\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("add", ""), "1 to 64 letters"),
        (("add", "no one"), "1 to 64 letters"),
        (("add", "a@example.com"), "1 to 64 letters"),
        (("add", "ä"), "1 to 64 letters"),
        (("add", "ann\n"), "1 to 64 letters"),
        (("add", "x" * 65), "1 to 64 letters"),
        (("remove", "x" * 65), "1 to 64 letters"),
        (("add", "ann", "--hourly-limit", "0"), "1 to 100000 requests"),
        (("add", "ann", "--hourly-limit", "100001"), "1 to 100000 requests"),
        (("add", "ann", "--hourly-limit", "many"), "1 to 100000 requests"),
        (("add", "ann", "--hourly-limit", "default"), "1 to 100000 requests"),
        (("limit", "ann", "٣"), "1 to 100000 requests"),
        (("limit", "ann", "9" * 5000), "1 to 100000 requests"),
        (("limit", "ann", "5"), "there is no subscriber ann"),
        (("remove", "ann"), "there is no subscriber ann"),
        (("remove", "founder"), "always a subscriber"),
        (("limit", "founder", "5"), "gateway.founder_hourly_limit"),
        (("add", "founder", "--hourly-limit", "5"), "gateway.founder_hourly_limit"),
    ],
)
def test_what_cannot_be_done_is_told(call: Call, words: tuple[str, ...], why: str) -> None:
    """In one line, and nothing is changed."""
    assert why in fault(call(*words))
    assert listed(call) == {}


def test_ids_may_begin_with_a_hyphen(call: Call) -> None:
    """Behind two of them, as everywhere; and be as long as may be."""
    for one in ("-_-", "x" * 64):
        assert said(call("add", "--", one)).startswith(f"added {one}")
    assert set(listed(call)) == {"-_-", "x" * 64}


def test_a_database_that_is_away_is_told(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its address, which holds a password."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://hush:hush@127.0.0.1:1/x")
    told = fault(call("list"))
    assert "database is away" in told
    assert "hush" not in told


def test_local_has_a_database_of_its_own(call: Call, tmp_path: Path) -> None:
    """That of the program that runs."""
    local = ("--local", "--state-dir", str(tmp_path / "state"))
    assert "start `sovren-edge serve --local` first" in fault(call("list", *local))

    async def use_it() -> None:
        async with run_postgres(tmp_path / "state", 5432) as postgres:
            await migrate(postgres.url, "sovren_edge", [HISTORY])
            assert said(await asyncio.to_thread(call, "add", "ann", *local)).startswith("added ann")

    asyncio.run(use_it())
    assert listed(call) == {}


async def test_the_gateway_does_as_it_is_told(
    call: Call, authority: trustme.CA, gateway_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscriber comes, is limited and goes, and the gateway that runs is not restarted."""
    monkeypatch.setattr("sovren_edge.gateway.subscribers.FRESH_S", 0.0)
    async with open_front(authority, gateway_url, tmp_path) as front:
        ann = partial(front.call, subscriber="ann", bearer=token("ann"))
        assert (await ann()).reason == "unknown_subscriber"
        await asyncio.to_thread(call, "add", "ann")
        assert (await ann()).headers["X-Gateway-RateLimit-Limit"] == "100"
        await asyncio.to_thread(call, "limit", "ann", "2")
        assert (await ann()).headers["X-Gateway-RateLimit-Limit"] == "2"
        assert (await ann()).status == 429
        await asyncio.to_thread(call, "remove", "ann")
        assert (await ann()).reason == "unknown_subscriber"
