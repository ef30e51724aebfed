"""Gateways that are killed at any instant, under load: what was dialled is in the ledger, once, and stays charged."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path

import aiohttp
import trustme
from harness import eventually

from sovren_edge.store.database import Database
from tests.gateway.gateway_process import GatewayProcess, Life
from tests.gateway.gateway_stage import POLL_S, settings_json, token
from tests.gateway.tls_upstream import HOST, Call, Upstream, serving
from tests.gateway.valkey import Valkey
from tests.name_server import name_server

LIVES, CALLERS = 50, 8
# How many calls a life sees at least, and for how long it goes on then: any instant may be its last.
CALLS, LONGEST_S = 10, 0.02


@asynccontextmanager
async def outside(authority: trustme.CA, folder: Path, **others: object) -> AsyncIterator[tuple[Upstream, bytes]]:
    """Run what gateways talk to; yield it, and settings that lead there, with others."""
    pem = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(pem))
    async with name_server() as names, serving(Upstream(), authority.issue_cert(HOST)) as upstream:
        names.records = {(HOST, "A"): ["127.0.0.1"]}
        yield upstream, settings_json(upstream, names, pem, **others)


async def call_on(port: int, numbers: Iterator[int], bearer: str) -> None:
    """Call one after the other, each URL once, until the gateway is gone."""
    headers = {"Authorization": f"Bearer {bearer}"}
    with suppress(aiohttp.ClientError, OSError):
        async with aiohttp.ClientSession() as session:
            while True:
                url = f"http://127.0.0.1:{port}/proxy/founder/example?url=https://{HOST}/{next(numbers)}"
                async with session.post(url, headers=headers) as answer:
                    await answer.read()
                    assert answer.status == 200, await answer.text()


async def test_nothing_that_was_dialled_is_forgotten(
    authority: trustme.CA, gateway_url: str, database: Database, tmp_path: Path
) -> None:
    """Killed fifty times in the midst of requests: each that upstream has seen has one row, and no row is twice."""
    chance, numbers = random.Random(2026), itertools.count()

    async def script(call: Call) -> None:
        await asyncio.sleep(chance.random() * 0.01)
        call.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with outside(authority, tmp_path, hourly_limit=100_000) as (upstream, settings):
        upstream.script = script
        life = Life(settings, gateway_url, tmp_path)
        for _ in range(LIVES):
            with GatewayProcess(life) as gateway:
                port = await gateway.port()
                calling = [asyncio.ensure_future(call_on(port, numbers, token())) for _ in range(CALLERS)]
                enough = len(upstream.calls) + chance.randrange(CALLS)
                await eventually(lambda enough=enough: len(upstream.calls) >= enough)
                await asyncio.sleep(chance.random() * LONGEST_S)
                gateway.kill()
                await asyncio.gather(*calling)
        seen = Counter(call.line.split()[1] for call in upstream.calls)
        with GatewayProcess(life) as gateway:
            port = await gateway.port()
            open_rows = "SELECT count(*) FROM api_requests WHERE settled_at IS NULL"
            while await database.fetchval(open_rows):  # noqa: ASYNC110 - a row has no event
                await asyncio.sleep(POLL_S)
            usage = await usage_of(port)
    assert len(seen) > LIVES
    assert max(seen.values()) == 1
    rows = Counter(row["path"] for row in await database.fetch("SELECT path FROM api_requests"))
    assert max(rows.values()) == 1
    assert seen.keys() <= rows.keys()
    charged = await database.fetch("SELECT path, decision FROM api_requests WHERE grant_charged")
    assert seen.keys() <= {row["path"] for row in charged}
    assert {row["decision"] for row in charged} <= {"settled", "unknown"}
    assert usage["quota"]["used"] == usage["totals"]["grants"] == len(charged)
    assert usage["totals"]["requests"] == len(rows)


async def usage_of(port: int) -> dict[str, dict[str, int]]:
    """Return what the founder has used, as the gateway tells it."""
    headers = {"Authorization": f"Bearer {token()}"}
    url = f"http://127.0.0.1:{port}/usage/founder"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        told: dict[str, dict[str, int]] = await answer.json()
        return told


async def ask(port: int) -> tuple[int, str]:
    """Call once; return the status, and the reason if it is an answer of the gateway's own."""
    url = f"http://127.0.0.1:{port}/proxy/founder/example?url=https://{HOST}/"
    headers = {"Authorization": f"Bearer {token()}"}
    async with aiohttp.ClientSession() as session, session.post(url, headers=headers) as answer:
        told = await answer.json(content_type=None) if answer.status != HTTPStatus.OK else {"reason": ""}
        return answer.status, told["reason"]


async def until_seeded(port: int) -> tuple[int, str]:
    """Call until the limiter knows the last hour; nothing is sent before."""
    while (told := await ask(port))[1] in {"limiter_not_seeded", "limiter_unavailable"}:  # noqa: ASYNC110 - no event
        await asyncio.sleep(POLL_S)
    return told


async def test_two_gateways_share_one_limit_whatever_dies(
    authority: trustme.CA, gateway_url: str, tmp_path: Path, valkey: Valkey
) -> None:
    """Twenty in an hour: with both asked at once, after one is killed, and after Redis has lost all that it knew."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    async with outside(authority, tmp_path, hourly_limit=20, redis="env:REDIS") as (upstream, settings):
        lives = [Life(settings, gateway_url, folder, valkey.url) for folder in folders]
        with GatewayProcess(lives[0]) as one, GatewayProcess(lives[1]) as two:
            ports = [await one.port(), await two.port()]
            assert [await ask(port) for port in ports] == [(200, "")] * 2
            # Ten in flight at once are allowed, so five each.
            for _ in range(5):
                await asyncio.gather(*(ask(port) for port in ports * 5))
            assert len(upstream.calls) == 20
            assert await ask(ports[0]) == (429, "hourly_limit")
            one.kill()
            with GatewayProcess(lives[0]) as again:
                port = await again.port()
                assert await until_seeded(port) == (429, "hourly_limit")
                await valkey.stop()
                assert (await ask(ports[1]))[0] in {429, 503}
                await valkey.start()
                assert await until_seeded(ports[1]) == (429, "hourly_limit")
                assert await until_seeded(port) == (429, "hourly_limit")
        assert len(upstream.calls) == 20
