"""What Prometheus is shown of a gateway, and when its port is ready, while PostgreSQL comes and goes."""

import asyncio
import os
import re
from pathlib import Path

import pytest
import trustme
from harness import eventually

from sovren_edge.gateway.migrations import HISTORY
from sovren_edge.local.postgres import run_postgres
from sovren_edge.observe.registry import Source, render
from sovren_edge.store.migrations import migrate
from tests.gateway.databases import SETTINGS
from tests.gateway.gateway_stage import Front, open_front
from tests.gateway.tls_upstream import Call, answer_ok
from tests.gateway.valkey import Valkey

IDLE = {
    "gateway_requests_inflight": 0,
    "gateway_limiter_seeded": 1,
    "gateway_subscribers_remembered": 0,
    "gateway_database_reached": 1,
    "gateway_owner_absent": 0,
    "gateway_rows_waiting": 0,
    "gateway_journaling": 0,
    "gateway_journal_used_bytes": 0,
    "gateway_journal_free_bytes": (1 << 20) - 4096,
    "gateway_journal_closed": 0,
    "gateway_journals_adopted": 1,
    'gateway_budget_alerts_total{threshold="50"}': 0,
    'gateway_budget_alerts_total{threshold="80"}': 0,
    'gateway_budget_alerts_total{threshold="100"}': 0,
    "gateway_refresh_failures_total": 0,
    "gateway_keys_waiting": 0,
}


def series(front: Front) -> dict[str, float]:
    """Return every series but histograms, as a scrape has them."""
    lines = render([Source(front.edge.metrics.registry)]).decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in found.items() if "upstream_seconds" not in name}


def ready(front: Front) -> dict[str, bool]:
    """Return what /ready asks."""
    return {name: check() for name, check in front.edge.checks.items()}


async def test_an_idle_gateway_shows_every_series(authority: trustme.CA, gateway_url: str, tmp_path: Path) -> None:
    """From the beginning, so that an alert finds them."""
    async with open_front(authority, gateway_url, tmp_path) as front:
        await eventually(lambda: series(front) == IDLE)
        assert all(re.fullmatch(r"[a-z_]+", name.partition("{")[0]) for name in series(front))
        assert ready(front) == {"limiter": True, "ledger": True}


async def test_a_limiter_in_redis_is_shown(
    authority: trustme.CA, gateway_url: str, tmp_path: Path, valkey: Valkey
) -> None:
    """It is seeded as long as Redis answers and knows the last hour; the port is not ready otherwise."""
    told = {"redis": "env:REDIS", "redis_url": valkey.url}
    async with open_front(authority, gateway_url, tmp_path, await_ready=False, **told) as front:
        await eventually(lambda: ready(front)["limiter"])
        assert (series(front)["gateway_limiter_seeded"], series(front)["gateway_clock_steps_total"]) == (1, 0)
        await valkey.stop()
        await eventually(lambda: not ready(front)["limiter"])
        assert series(front)["gateway_limiter_seeded"] == 0


async def test_requests_are_counted(authority: trustme.CA, gateway_url: str, tmp_path: Path) -> None:
    """In flight until they are recorded, then by service, decision and reason; nothing that a caller wrote."""
    held, free = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        held.set()
        await free.wait()
        await answer_ok(call)

    async with open_front(authority, gateway_url, tmp_path, hourly_limit=1) as front:
        front.upstream.script = script
        calling = asyncio.create_task(front.call())
        await held.wait()
        assert series(front)["gateway_requests_inflight"] == 1
        free.set()
        await calling
        for service, bearer in (("teams", ""), ("example", ""), ("example", None)):
            await front.call(service=service, bearer=bearer)
        await eventually(lambda: not series(front)["gateway_requests_inflight"])
        shown = series(front)
    assert {name: value for name, value in shown.items() if name.startswith("gateway_requests_total")} == {
        'gateway_requests_total{service="example",decision="settled",reason=""}': 1,
        'gateway_requests_total{service="example",decision="refused",reason="hourly_limit"}': 1,
        'gateway_requests_total{service="",decision="refused",reason="unknown_service"}': 1,
        'gateway_requests_total{service="example",decision="refused",reason="token_missing"}': 1,
    }
    assert shown["gateway_subscribers_remembered"] == 1


async def test_a_spent_budget_is_counted(authority: trustme.CA, gateway_url: str, tmp_path: Path) -> None:
    """By its threshold, not by who has spent it."""
    budgets, prices = {"default": {"soft_microusd": 100}}, [{"amount_microusd": 60}]
    async with open_front(authority, gateway_url, tmp_path, budgets=budgets, price_version="1", prices=prices) as front:
        await front.call()
        await eventually(lambda: series(front)['gateway_budget_alerts_total{threshold="50"}'] == 1)
        assert series(front)['gateway_budget_alerts_total{threshold="80"}'] == 0


async def test_an_outage_is_shown_and_served_through(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The port is ready while the journal takes rows; not when it is closed, until PostgreSQL has them all."""
    monkeypatch.setattr("sovren_edge.gateway.ledger.owners.REACHED_S", 1.5)
    home = tmp_path / "postgres"
    home.mkdir()
    async with run_postgres(home, 5432) as postgres:
        await migrate(postgres.url, SETTINGS.schema_name, [HISTORY])
        opening = open_front(authority, postgres.url, tmp_path, hourly_limit=1000)
        front = await opening.__aenter__()
        await front.call()
        await front.rows()
    try:
        await front.call()
        await eventually(lambda: not series(front)["gateway_database_reached"])
        shown = series(front)
        assert (shown["gateway_journaling"], shown["gateway_journal_closed"]) == (1, 0)
        assert shown["gateway_journal_used_bytes"] > 0
        assert shown["gateway_journal_used_bytes"] + shown["gateway_journal_free_bytes"] == (1 << 20) - 4096
        assert ready(front) == {"limiter": True, "ledger": True}
        while (await front.call()).status == 200:
            pass
        assert series(front)["gateway_journal_closed"] == 1
        assert ready(front) == {"limiter": True, "ledger": False}
        async with run_postgres(home, 5432):
            await eventually(lambda: ready(front)["ledger"] and series(front)["gateway_database_reached"])
            assert series(front)["gateway_journaling"] == 0
            assert (await front.call()).status == 200
            await front.rows()
    finally:
        await opening.__aexit__(None, None, None)


async def test_a_disk_that_fails_matters_once_postgresql_is_away(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed journal is an alert at once; the port does its work as long as PostgreSQL takes rows."""
    monkeypatch.setattr("sovren_edge.gateway.ledger.owners.REACHED_S", 1.5)
    home = tmp_path / "postgres"
    home.mkdir()

    def fail(_file: int) -> None:
        raise OSError(5, "the disk has failed")

    async with run_postgres(home, 5432) as postgres:
        await migrate(postgres.url, SETTINGS.schema_name, [HISTORY])
        opening = open_front(authority, postgres.url, tmp_path)
        front = await opening.__aenter__()
        await front.call()
        await front.rows()
        monkeypatch.setattr(os, "fdatasync", fail)
        async with front.database.transaction() as connection:
            await connection.execute("LOCK TABLE api_requests IN ACCESS EXCLUSIVE MODE")
            assert (await front.call()).reason == "ledger_unavailable"
        assert series(front)["gateway_journal_closed"] == 1
        assert ready(front)["ledger"]
        assert (await front.call()).status == 200
        await front.rows()
    try:
        await eventually(lambda: not ready(front)["ledger"])
        assert (await front.call()).reason == "ledger_unavailable"
    finally:
        await opening.__aexit__(None, None, None)
