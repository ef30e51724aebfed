"""`GET /usage/{subscriber_id}` on a real port and a real PostgreSQL."""

import asyncio
import csv
import io
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer

from sovren_edge.auth.tokens import AuthSettings, OneKey, Verifier, make_token
from sovren_edge.gateway.limit.grants import LocalGrants
from sovren_edge.gateway.limit.limiter import Limiter
from sovren_edge.gateway.money.budgets import open_budgets
from sovren_edge.gateway.settings import BudgetSettings
from sovren_edge.gateway.subscribers import Subscribers
from sovren_edge.gateway.usage import usage as usage_module
from sovren_edge.gateway.usage.usage import usage_routes
from sovren_edge.handler import Clock, Edge, Metrics
from sovren_edge.handler.application import build_application
from sovren_edge.local.postgres import run_postgres
from sovren_edge.secret import SecretSource
from sovren_edge.store.database import Database, open_database
from sovren_edge.store.history import History
from sovren_edge.store.migrations import migrate
from sovren_edge.store.settings import DatabaseSettings
from tests.gateway.books import NOON, cost_of, make_row, write

SETTINGS = DatabaseSettings()
GATEWAY = [History("gateway", "sovren_edge.gateway.migrations")]
HOUR, HOUR_US = timedelta(hours=1), 3_600_000_000
NOW_US = 1_000_000_000_000
NOW = NOON + 3 * HOUR
AUTH = AuthSettings.model_validate({"key": "env:KEY"}, context={"secrets": SecretSource({"KEY": "k" * 32})})
BUDGETS = {"ann": BudgetSettings(hard_microusd=1000)}

Told = dict[str, Any]


@dataclass
class Desk:
    """Where usage is asked for."""

    client: "TestClient[web.Request, web.Application]"
    limiter: Limiter
    database: Database
    complete: list[bool] = field(default_factory=lambda: [True])

    def headers(self, subject: str = "ann", scope: str = "") -> dict[str, str]:
        """Return what names a caller."""
        token = make_token(AUTH, subject=subject, scope=scope, ttl_s=60, now=NOW.timestamp())
        return {"Authorization": f"Bearer {token}"}

    async def ask(self, query: str = "", subscriber: str = "ann", **caller: str) -> Told:
        """Return an answer's JSON; of an error, that of the error."""
        path = f"/usage/{subscriber}" + (f"?{query}" if query else "")
        async with self.client.get(path, headers=self.headers(**caller)) as answer:
            told: Told = await answer.json(content_type=None)
            return told


async def add_subscribers(database: Database) -> None:
    """Make ann and bob subscribers."""
    await database.execute("INSERT INTO subscribers VALUES ('ann'), ('bob')")


Serve = Callable[[Database], Awaitable[Desk]]


@pytest.fixture
async def serve(
    aiohttp_client: Callable[[TestServer], Awaitable["TestClient[web.Request, web.Application]"]], tmp_path: Path
) -> AsyncIterator[Serve]:
    """Return a way to open the desk."""
    log = structlog.get_logger()
    limiter = Limiter(lambda: 100, HOUR_US)
    limiter.finish_seeding()
    complete = [True]
    async with asyncio.TaskGroup() as tasks, ClientSession() as http:

        async def start(database: Database) -> Desk:
            async def hold_budgets() -> None:
                async with open_budgets(lambda: BUDGETS, database, lambda: NOW, log) as budgets:
                    opened.set_result(budgets)
                    await asyncio.Event().wait()

            opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            holding.append(tasks.create_task(hold_budgets()))
            key = AUTH.key
            assert key is not None
            edge = Edge(
                name="gateway", log=log, clock=Clock(now=lambda: NOW), http=http, metrics=Metrics(), doors={},
                open_database=None, tokens=Verifier(AUTH, OneKey(key.get_secret_value()), NOW.timestamp),
                state_dir=tmp_path,
            )  # fmt: skip
            routes = usage_routes(
                edge=edge,
                database=database,
                grants=LocalGrants(limiter, lambda: NOW_US, "boot"),
                subscribers=Subscribers(database, tasks.create_task, lambda: 0.0),
                budgets=await opened,
                complete=lambda: complete[0],
            )
            application = build_application(routes, title="T", version="1", log=log, observe=lambda *_: None)
            client = await aiohttp_client(TestServer(application, handler_cancellation=True))
            return Desk(client, limiter, database, complete)

        holding: list[asyncio.Task[None]] = []
        yield start
        for task in holding:
            task.cancel()


@pytest.fixture
async def desk(serve: Serve, database: Database) -> Desk:
    """Open the desk, for two subscribers."""
    await add_subscribers(database)
    return await serve(database)


async def test_everything_is_told_of_today(desk: Desk) -> None:
    """Of the day in UTC, until now; of what was before, after and another's, nothing."""
    rows = [
        make_row(granted_us=(1, 2), bytes_in=3, bytes_out=40),
        make_row(created_at=NOON + HOUR, service="zoom", status=404, upstream_status=404, would_deny="host"),
        make_row(status=502, upstream_status=None, reason="dns_error", granted_us=(None,), grant_charged=False),
        make_row(decision="refused", status=429, upstream_status=None, reason="limit_exceeded", count=1000,
                 granted_us=(), grant_charged=False),
        make_row(decision="reserved", settled_at=None, status=None, upstream_status=None),
        make_row(decision="unknown", status=None, upstream_status=None),
        make_row(idempotent_replay=True, granted_us=(), grant_charged=False),
    ]  # fmt: skip
    elsewhere = [
        make_row(created_at=NOON - 13 * HOUR),
        make_row(created_at=NOW),
        make_row(subscriber_id="bob"),
    ]
    costs = [cost_of(rows[0], 500), cost_of(rows[1], 0, source="unpriced"), *(cost_of(row, 7) for row in elsewhere)]
    await write(desk.database, *rows, *elsewhere, *costs)
    desk.limiter.grant("ann", "one", NOW_US - 10_000_000)
    told = await desk.ask()
    assert (told["subscriber_id"], told["complete"], told["next_cursor"]) == ("ann", True, None)
    assert told["period"] == {
        "from": "2026-11-24T00:00:00Z", "to": "2026-11-24T15:00:00Z", "tz": "UTC", "granularity": "hour",
    }  # fmt: skip
    assert told["quota"] == {"limit": 100, "used": 1, "remaining": 99, "next_slot_in_s": 3590, "full_reset_in_s": 3590}
    assert told["totals"] == {
        "requests": 1006, "forwarded": 3, "refused": 1000, "replayed": 1, "unknown": 1, "in_flight": 1, "would_deny": 1,
        "grants": 5, "bytes_in": 3, "bytes_out": 40, "cost_microusd": 500, "cost_usd": "0.000500",
    }  # fmt: skip
    assert {name: sums["requests"] for name, sums in told["by_service"].items()} == {"slack": 1005, "zoom": 1}
    assert told["by_service"]["slack"]["cost_microusd"] == 500
    assert told["by_status"] == {"429": 1000, "200": 2, "none": 2, "404": 1, "502": 1}
    assert told["by_reason"] == {"limit_exceeded": 1000, "dns_error": 1}
    assert [(row["start"], row["requests"]) for row in told["series"]] == [
        ("2026-11-24T12:00:00Z", 1005),
        ("2026-11-24T13:00:00Z", 1),
    ]
    assert told["cost"] == {
        "amount_microusd": 500, "amount_usd": "0.000500", "unpriced_requests": 1,
        "by_service": {
            "slack": {"amount_microusd": 500, "amount_usd": "0.000500"},
            "zoom": {"amount_microusd": 0, "amount_usd": "0.000000"},
        },
    }  # fmt: skip
    budget = told["budget"]
    # Of the whole month: the evening before, and what came in this very moment.
    assert (budget["period"], budget["spent_microusd"], budget["remaining_microusd"]) == ("month", 514, 486)


async def test_nothing_is_told_as_zeros(desk: Desk) -> None:
    """And no budget as none; what is on its way is said to be."""
    desk.complete[0] = False
    told = await desk.ask(subscriber="bob", subject="bob")
    assert set(told["totals"].values()) == {0, "0.000000"}
    assert (told["series"], told["by_service"], told["by_status"], told["by_reason"]) == ([], {}, {}, {})
    assert (told["budget"], told["complete"]) == (None, False)


async def test_the_limit_stands_in_the_head(desk: Desk) -> None:
    """As on every answer of the gateway's own; nobody keeps a copy."""
    async with desk.client.head("/usage/ann", headers=desk.headers()) as answer:
        assert answer.status == 200
        assert answer.headers["RateLimit"] == '"subscriber-hour";r=100;t=0'
        assert answer.headers["Cache-Control"] == "no-store"
        assert await answer.read() == b""


async def test_a_subscriber_sees_only_its_own(desk: Desk) -> None:
    """An operator sees all; without a token nobody sees anything; who is none is not found."""
    assert (await desk.ask(subscriber="bob"))["reason"] == "subscriber_mismatch"
    assert (await desk.ask(subscriber="bob", scope="operator"))["subscriber_id"] == "bob"
    assert (await desk.ask(subscriber="eve", subject="eve"))["reason"] == "unknown_subscriber"
    assert (await desk.ask(subscriber="eve", scope="operator"))["status"] == 404
    async with desk.client.get("/usage/ann") as answer:
        assert answer.status == 401


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("from=2026-11-24T12:00:00Z&to=2026-11-24T12:00:00Z", "query.from: a time before to"),
        ("from=yesterday", "query.from: Input should be a valid datetime"),
        ("from=0001-01-01T00:00:00Z", "query.from: a year from 1970"),
        ("tz=Mars/Olympus", "query.tz: the name of a time zone"),
        ("granularity=week", "query.granularity: Input should be 'hour' or 'day'"),
        ("group_by=service,method", "query.group_by.1: Input should be 'service' or 'status'"),
        ("format=xml", "query.format: Input should be 'json' or 'csv'"),
        ("limit=0", "query.limit: Input should be greater than or equal to 1"),
        ("cursor=abc", "query.cursor: the next_cursor of a page"),
        ("form=csv", "query.form: Extra inputs are not permitted"),
        ("from=1990-01-01", "query.from: a time that is no more than 10000 hours before to"),
    ],
)
async def test_what_cannot_be_told_is_refused(desk: Desk, query: str, place: str) -> None:
    """With the place, and what should stand there."""
    told = await desk.ask(query)
    assert (told["status"], told["reason"]) == (400, "invalid_request")
    assert place in told["detail"]


@pytest.mark.parametrize(
    "since", ["2026-11-24T13:00:00%2B01:00", "2026-11-24T13:00:00+01:00", "2026-11-24T12:00:00Z", "2026-11-24T12:00"]
)
async def test_times_are_read_as_they_are_written(desk: Desk, since: str) -> None:
    """With an offset, also one whose plus was not encoded, or without, as the zone's."""
    assert (await desk.ask(f"from={since}"))["period"]["from"] == "2026-11-24T12:00:00Z"


async def test_days_are_the_zones(desk: Desk) -> None:
    """The day on which the clocks go back has 25 hours."""
    first = datetime(2026, 10, 24, 22, 30, tzinfo=UTC)
    await write(desk.database, *(make_row(created_at=first + n * HOUR) for n in range(26)))
    told = await desk.ask("from=2026-10-25&to=2026-10-27&granularity=day&tz=Europe/Berlin")
    assert [(row["start"], row["requests"]) for row in told["series"]] == [
        ("2026-10-25T00:00:00+02:00", 25),
        ("2026-10-26T00:00:00+01:00", 1),
    ]
    hours = await desk.ask("from=2026-10-25&to=2026-10-27&tz=Europe/Berlin")
    assert [row["requests"] for row in hours["series"]] == [1] * 26
    assert hours["series"][3]["start"] == "2026-10-25T02:00:00+01:00"


async def fill(database: Database, hours: int = 40) -> None:
    """Write rows of several services and statuses for each hour before noon."""
    for n in range(hours):
        names = {"service": ("slack", "zoom", "=evil()")[n % 3], "status": (200, 404, None)[n % 4 % 3]}
        rows = [make_row(created_at=NOON - n * HOUR, **names), make_row(created_at=NOON - n * HOUR)]
        await write(database, *rows, cost_of(rows[0], n))


PERIOD = "from=2026-11-20&to=2026-11-25"


@pytest.mark.parametrize("group_by", ["", "&group_by=service", "&group_by=status", "&group_by=service,status"])
@pytest.mark.parametrize("granularity", ["hour", "day"])
async def test_pages_together_are_the_whole(desk: Desk, group_by: str, granularity: str) -> None:
    """Every row once and in order; the sums of the rows are the totals, on every page."""
    await fill(desk.database)
    how = f"granularity={granularity}{group_by}"
    whole = await desk.ask(f"{PERIOD}&{how}")
    for name in ("requests", "grants", "cost_microusd"):
        assert sum(row[name] for row in whole["series"]) == whole["totals"][name]
    rows: list[Told] = []
    cursor, query = "", f"{PERIOD}&"
    while cursor is not None:
        page = await desk.ask(f"{query}{how}&limit=3{cursor and f'&cursor={cursor}'}")
        assert page["totals"] == whole["totals"]
        assert page["period"] == whole["period"]
        assert 0 < len(page["series"]) <= 3
        rows += page["series"]
        cursor, query = page["next_cursor"], ""
    assert rows == whole["series"]


async def test_csv_is_the_series(desk: Desk) -> None:
    """With no formula in it; its pages are told in the head."""
    await fill(desk.database)
    how = f"{PERIOD}&group_by=service,status"
    whole = (await desk.ask(how))["series"]
    async with desk.client.get(f"/usage/ann?{how}&format=csv", headers=desk.headers()) as answer:
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="usage-ann.csv"'
        assert "X-Next-Cursor" not in answer.headers
        rows = list(csv.DictReader(io.StringIO(await answer.text(), newline="")))
    assert len(rows) == len(whole)
    for row, point in zip(rows, whole, strict=True):
        assert row["service"] in {point["service"], "'=evil()"}
        assert row["cost_usd"] == point["cost_usd"]
        assert row["status"] == ("" if point["status"] is None else str(point["status"]))
    page = f"{how}&format=csv&limit=5"
    async with desk.client.get(f"/usage/ann?{page}", headers=desk.headers()) as answer:
        cursor = answer.headers["X-Next-Cursor"]
        assert len((await answer.text()).splitlines()) == 6
    following = await desk.ask(f"group_by=service,status&limit=5&cursor={cursor}")
    assert following["series"] == whole[5:10]


MANY = """
INSERT INTO api_requests (request_id, created_at, settled_at, owner, subscriber_id, service, method, host, path,
    decision, status)
SELECT gen_random_uuid(), $1::timestamptz - n * interval '1 hour', $1, 'o', 'ann', repeat('s', 500) || s, 'GET', 'h',
    '/', 'settled', 200
FROM generate_series(1, 8000) n, generate_series(1, 2) s
"""


async def test_a_long_period_is_streamed(desk: Desk) -> None:
    """Most of a year by hours and services, in pieces that are small."""
    await desk.database.execute(MANY, NOON)
    how = "from=2025-12-15&to=2026-11-25&group_by=service&format=csv"
    pieces = []
    async with desk.client.get(f"/usage/ann?{how}", headers=desk.headers()) as answer:
        async for piece in answer.content.iter_any():
            pieces.append(piece)  # noqa: PERF401 - it is counted as it comes
    assert b"".join(pieces).count(b"\r\n") == 16_001
    assert max(map(len, pieces)) <= 1 << 19


async def test_whoever_reads_slowly_holds_no_connection_for_ever(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is broken off, and its place is another's."""
    await desk.database.execute(MANY, NOON)
    how = "from=2025-12-15&to=2026-11-25&group_by=service&format=csv"
    with monkeypatch.context() as hurried:
        hurried.setattr(usage_module, "ANSWER_S", 3.0)
        readers = [await read_slowly(desk, how) for _ in range(usage_module.MOST_AT_ONCE)]
        hurried.setattr(usage_module, "ANSWER_S", 0.01)
        assert (await desk.ask())["reason"] == "usage_too_slow"
    assert "totals" in await desk.ask()
    for reader, writer in readers:
        with suppress(ConnectionError):
            assert not (await reader.read()).endswith(b"\r\n0\r\n\r\n")
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def read_slowly(desk: Desk, how: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask, and read no more than the answer's first line."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(0)
    server = desk.client.server
    await asyncio.get_running_loop().sock_connect(connection, (server.host, server.port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
    token = desk.headers()["Authorization"]
    writer.write(f"GET /usage/ann?{how} HTTP/1.1\r\nHost: h\r\nAuthorization: {token}\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    return reader, writer


async def test_an_answer_is_of_one_moment(desk: Desk) -> None:
    """Its sums agree with each other, while rows come in and are settled."""
    open_rows = [make_row(decision="reserved", settled_at=None, status=None, created_at=NOON) for _ in range(200)]

    async def settle() -> None:
        for row in open_rows:
            await write(desk.database, row)
            ended = replace(row, decision="settled", settled_at=NOON, status=200, bytes_out=9)
            await write(desk.database, ended, cost_of(row, 3))

    settling = asyncio.create_task(settle())
    while not settling.done():
        told = await desk.ask("group_by=service,status")
        for name in ("requests", "bytes_out", "cost_microusd", "in_flight"):
            assert sum(row[name] for row in told["series"]) == told["totals"][name]
            assert sum(sums[name] for sums in told["by_service"].values()) == told["totals"][name]
        assert sum(told["by_status"].values()) == told["totals"]["requests"]
        assert told["cost"]["amount_microusd"] == told["totals"]["cost_microusd"]
    await settling
    assert (await desk.ask())["totals"]["cost_microusd"] == 600


async def test_costs_outlive_requests(desk: Desk) -> None:
    """What was spent is told of a period whose rows are gone."""
    row = make_row()
    await write(desk.database, row, cost_of(row, 25))
    await desk.database.execute("DELETE FROM api_requests")
    told = await desk.ask()
    assert (told["totals"]["requests"], told["cost"]["amount_microusd"], told["series"]) == (0, 25, [])


async def test_while_postgres_is_away_nothing_is_told(serve: Serve, tmp_path: Path) -> None:
    """It is not said that nothing was used."""
    async with run_postgres(tmp_path, 5432) as postgres, open_database(postgres.url, SETTINGS) as database:
        await migrate(postgres.url, SETTINGS.schema_name, GATEWAY)
        await add_subscribers(database)
        desk = await serve(database)
        assert "totals" in await desk.ask()
    assert (await desk.ask())["reason"] == "database_unavailable"


async def test_the_question_is_described(desk: Desk) -> None:
    """With every parameter."""
    async with desk.client.get("/openapi.json") as answer:
        operation = (await answer.json())["paths"]["/usage/{subscriber_id}"]["get"]
    names = [parameter["name"] for parameter in operation["parameters"]]
    assert names == ["subscriber_id", "from", "to", "granularity", "group_by", "tz", "format", "limit", "cursor"]
    assert re.match("Tell what a subscriber has used", operation["summary"])
