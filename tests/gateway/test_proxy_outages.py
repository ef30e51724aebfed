"""The whole gateway while PostgreSQL is away or slow, and while the disk fails: served or refused, never forgotten."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trustme
from harness import eventually

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.migrations import HISTORY
from sovren_edge.local.postgres import run_postgres
from sovren_edge.store.migrations import migrate
from tests.gateway.databases import SETTINGS
from tests.gateway.gateway_stage import Front, open_front
from tests.gateway.tls_upstream import HOST, Call, answer_ok

PORT = 5432


@pytest.fixture
async def server(tmp_path: Path) -> Path:
    """Make a server with the gateway's tables, which is not running; return where it is."""
    home = tmp_path / "postgres"
    home.mkdir()
    async with run_postgres(home, PORT) as postgres:
        await migrate(postgres.url, SETTINGS.schema_name, [HISTORY])
    return home


@asynccontextmanager
async def gateway(authority: trustme.CA, server: Path, **others: object) -> AsyncIterator[Front]:
    """Open a gateway and call once, before this server, which is stopped then."""
    async with run_postgres(server, PORT) as postgres:
        url = postgres.url
        opening = open_front(authority, url, server.parent, **others)
        front = await opening.__aenter__()
        # From now on it knows the founder, and that nothing is stored for this host.
        assert (await front.call(f"https://{HOST}/first")).status == 200
        await front.rows()
        front.upstream.calls.clear()
    try:
        yield front
    finally:
        await opening.__aexit__(None, None, None)


def replayed(front: Front) -> bool:
    """Whether the journal was brought to PostgreSQL after the outage; at its start each gateway says so once."""
    return "ledger_journaling" in front.events and not front.journaling


async def test_callers_are_served_while_postgresql_is_away(authority: trustme.CA, server: Path) -> None:
    """And when it returns it has every row, once."""
    async with gateway(authority, server, hourly_limit=50) as front:
        for number in range(10):
            assert (await front.call(f"https://{HOST}/away/{number}")).status == 200
        assert "ledger_journaling" in front.events
        async with run_postgres(server, PORT):
            await eventually(lambda: replayed(front))
            for number in range(10):
                assert (await front.call(f"https://{HOST}/back/{number}")).status == 200
            rows = await front.rows()
    assert [row["path"] for row in rows] == [
        "/first",
        *(f"/{when}/{n}" for when in ("away", "back") for n in range(10)),
    ]
    assert {row["decision"] for row in rows} == {"settled"}


async def test_the_row_is_on_disk_before_anybody_is_dialled(
    authority: trustme.CA, server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With PostgreSQL away that is the journal's sync; with it, its commit, which is its own promise."""
    trace: list[str] = []
    sync = os.fdatasync

    def traced(file: int) -> None:
        sync(file)
        trace.append("synced")

    async def script(call: Call) -> None:
        trace.append("dialled")
        await answer_ok(call)

    monkeypatch.setattr(os, "fdatasync", traced)
    async with gateway(authority, server) as front:
        front.upstream.script = script
        for _ in range(3):
            assert (await front.call()).status == 200
            await eventually(lambda: trace[-1] == "synced")
    assert trace == ["synced", "dialled", "synced"] * 3


async def test_a_sync_that_fails_refuses_and_dials_nobody(
    authority: trustme.CA, server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no later one is believed: 503 until PostgreSQL is back; what was not sent is not charged."""

    def failing(_file: int) -> None:
        raise OSError(errno.EIO, "the disk failed")

    async with gateway(authority, server, hourly_limit=5) as front:
        monkeypatch.setattr(os, "fdatasync", failing)
        for _ in range(2):
            told = await front.call()
            assert (told.status, told.reason) == (503, "ledger_unavailable")
            assert told.headers["Retry-After"]
        monkeypatch.undo()
        told = await front.call()
        assert (told.status, told.headers["X-RateLimit-Remaining"]) == (503, "3")
        assert not front.upstream.calls
        assert "journal_closed" in front.events


async def test_a_last_row_that_cannot_be_written_is_written_later(
    authority: trustme.CA, server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that was dialled before the disk failed is settled when PostgreSQL is back, with its cost.

    The journal takes no more, so only PostgreSQL is relied on from then on.
    """
    monkeypatch.setattr("sovren_edge.gateway.service.FLUSH_S", 0.05)

    async def script(call: Call) -> None:
        monkeypatch.setattr(os, "fdatasync", failing)
        await answer_ok(call)

    def failing(_file: int) -> None:
        raise OSError(errno.EIO, "the disk failed")

    async with gateway(authority, server, hourly_limit=5) as front:
        front.upstream.script = script
        assert (await front.call(f"https://{HOST}/last")).status == 200
        await eventually(lambda: "journal_closed" in front.events)
        async with run_postgres(server, PORT):
            async with asyncio.timeout(20):
                while not await settled(front):  # noqa: ASYNC110 - PostgreSQL's
                    await asyncio.sleep(0.05)
            assert (await front.call()).status == 200


async def settled(front: Front) -> bool:
    """Whether PostgreSQL, which may not be there yet, has the last row and its cost."""
    both = "SELECT true FROM api_requests JOIN api_costs USING (request_id) WHERE path = '/last' AND status = 200"
    with suppress(EdgeError):
        return bool(await front.database.fetchval(both))
    return False


async def test_a_full_journal_refuses_and_dials_nobody(authority: trustme.CA, server: Path) -> None:
    """Until PostgreSQL has taken what is in it; then nothing is missing."""
    async with gateway(authority, server, hourly_limit=1000, journal_bytes=1 << 20) as front:
        long = "x" * 8000
        served = 0
        while (told := await front.call(f"https://{HOST}/{long}/{served}")).status == 200:
            served += 1
        assert (told.status, told.reason) == (503, "ledger_unavailable")
        assert served > 20
        dialled = len(front.upstream.calls)
        assert dialled == served
        async with run_postgres(server, PORT):
            await eventually(lambda: replayed(front))
            assert (await front.call()).status == 200
            charged = await front.database.fetchval("SELECT count(*) FROM api_requests WHERE grant_charged")
    assert charged == served + 2


async def test_a_commit_that_takes_long_delays_nobody(authority: trustme.CA, server: Path) -> None:
    """Its rows go to the journal after a quarter of a second, and it may end when it likes."""
    async with run_postgres(server, PORT) as postgres, open_front(authority, postgres.url, server.parent) as front:
        async with front.database.transaction() as connection:
            await connection.execute("LOCK TABLE api_requests IN ACCESS EXCLUSIVE MODE")
            # Far less than three times what a statement may take.
            async with asyncio.timeout(2 * SETTINGS.timeout_s):
                for number in range(3):
                    assert (await front.call(f"https://{HOST}/{number}")).status == 200
        await eventually(lambda: replayed(front))
        assert [row["path"] for row in await front.rows()] == ["/0", "/1", "/2"]


async def test_a_restart_with_postgresql_away_grants_nothing_until_it_is_back(
    authority: trustme.CA, server: Path
) -> None:
    """What was granted before is known again then, also what was only in the journal."""
    async with gateway(authority, server, hourly_limit=3) as front:
        for _ in range(2):
            assert (await front.call()).status == 200
    async with run_postgres(server, PORT) as postgres:
        url = postgres.url
    async with open_front(authority, url, server.parent, await_ready=False, hourly_limit=3) as front:
        told = await front.call()
        assert told.status == 503
        async with run_postgres(server, PORT):
            await eventually(front.ready)
            told = await front.call()
            assert (told.status, told.reason) == (429, "hourly_limit")
        assert not front.upstream.calls
