"""The whole gateway on a port of loopback, before a TLS server that a test writes, with a real database."""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import orjson
import structlog
import trustme
from aiohttp import web
from harness import eventually
from pydantic import SecretStr
from structlog.testing import CapturingLogger

from sovren_edge.auth.tokens import AuthSettings, OneKey, Verifier, make_token
from sovren_edge.gateway.service import Gateway, RunningGateway
from sovren_edge.gateway.settings import GatewaySettings
from sovren_edge.handler import Clock, Edge, Metrics
from sovren_edge.handler.application import build_application
from sovren_edge.observe.tracing import Tracer
from sovren_edge.process.channel import Channel, channel_pair
from sovren_edge.secret import SecretSource
from sovren_edge.store.connection import Row
from sovren_edge.store.database import Database, open_database
from tests.gateway.databases import SETTINGS
from tests.gateway.tls_upstream import HOST, OTHER, Call, Script, Upstream, serving
from tests.name_server import Names, name_server

AUTH = AuthSettings(key=SecretStr("x" * 32))

POLL_S = 0.01
KEYS = "one:" + "A" * 43 + "="
SERVICES = {
    "example": {"hosts": ["example.com"]},
    "closed": {"hosts": ["www.example.com"], "credential": "required"},
    "trial": {"hosts": ["example.org"], "mode": "report"},
}


def token(subject: str = "founder", scope: str = "") -> str:
    """Return a token that names somebody."""
    return make_token(AUTH, subject=subject, scope=scope, ttl_s=3600, now=time.time())


def saying(raw: bytes) -> Script:
    """Return a script that answers with these bytes and keeps the connection."""

    async def script(call: Call) -> None:
        await call.body()
        call.writer.write(raw)

    return script


def sized(status: str, body: bytes, *fields: str) -> bytes:
    """Return an answer."""
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""])
    return head.encode() + body


@dataclass(frozen=True)
class Told:
    """What a caller got."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        """The body as JSON."""
        read = orjson.loads(self.body)
        assert isinstance(read, dict)
        return read

    @property
    def reason(self) -> object:
        """Why it was refused; an error has every member that somebody reads."""
        assert {"error", "message", "detail", "statusCode", "type", "title"} <= self.json.keys()
        return self.json["reason"]


@dataclass
class Front:
    """A running gateway, and all that it stands between."""

    base: str
    http: aiohttp.ClientSession
    upstream: Upstream
    names: Names
    database: Database
    log: CapturingLogger
    edge: Edge
    # What each request was counted as.
    statuses: list[int]
    gateway: RunningGateway
    settings: GatewaySettings
    state_dir: Path

    @property
    def events(self) -> list[str]:
        """What the log says has happened."""
        return [str(call.kwargs.get("event")) for call in self.log.calls]

    @property
    def journaling(self) -> bool:
        """Whether rows are in the journal."""
        turns = [event for event in self.events if event in {"ledger_journaling", "ledger_replayed"}]
        return turns[-1:] == ["ledger_journaling"]

    def ready(self) -> bool:
        """Whether /ready would say so."""
        return all(check() for check in self.edge.checks.values())

    async def call(
        self,
        url: str = f"https://{HOST}/",
        *,
        subscriber: str = "founder",
        service: str = "example",
        body: bytes = b"",
        bearer: str | None = "",
        method: str = "POST",
        **headers: str,
    ) -> Told:
        """Send a request through it; underscores in names of headers are hyphens."""
        query = url.replace("%", "%25").replace("&", "%26").replace("#", "%23").replace("+", "%2B")
        return await self.ask(method, f"/proxy/{subscriber}/{service}?url={query}", bearer=bearer, body=body, **headers)

    async def ask(self, method: str, path: str, *, bearer: str | None = "", body: bytes = b"", **headers: str) -> Told:
        """Send any request to it, as the founder unless told otherwise."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given |= {} if bearer is None else {"Authorization": f"Bearer {bearer or token()}"}
        url = aiohttp.client.URL(f"{self.base}{path}", encoded=True)
        async with self.http.request(
            method, url, data=io.BytesIO(body) if body else None, headers=given, allow_redirects=False
        ) as answer:
            return Told(answer.status, answer.headers.copy(), await answer.read())

    async def rows(self, where: str = "true", *, settled: bool = True) -> list[Row]:
        """Return what the ledger has, in order; a caller has its answer a moment before its row is settled.

        On a busy machine PostgreSQL may not acknowledge in time, and rows come to it from the journal.
        """
        await eventually(lambda: not self.journaling)
        open_rows = "SELECT count(*) FROM api_requests WHERE settled_at IS NULL"
        while settled and await self.database.fetchval(open_rows):  # noqa: ASYNC110 - a row has no event
            await asyncio.sleep(POLL_S)
        query = f"SELECT * FROM api_requests WHERE {where} ORDER BY request_id"  # noqa: S608 - a test's own words
        return await self.database.fetch(query)


def verifier() -> Verifier:
    """Return what knows callers by the tokens that are made here."""
    return Verifier(AUTH, OneKey("x" * 32), time.time)


def settings_json(upstream: Upstream, names: Names, authority: Path, **others: object) -> bytes:
    """Return settings that lead to an upstream on loopback."""
    stage = {"dns": names.server, "networks": ["127.0.0.0/8"], "authority": str(authority), "port": upstream.port}
    told = {"services": SERVICES, "rehearsal": stage, "credential_keys": "env:KEYS", "journal_bytes": 1 << 20}
    return orjson.dumps(told | others)


def settings_from(written: bytes, redis_url: str = "") -> GatewaySettings:
    """Read settings as a configuration's file has them; `redis` may name env:REDIS."""
    secrets = SecretSource({"KEYS": KEYS, "REDIS": redis_url})
    return GatewaySettings.model_validate_json(written, context={"secrets": secrets})


@asynccontextmanager
async def open_front(
    authority: trustme.CA,
    database_url: str,
    state_dir: Path,
    *,
    await_ready: bool = True,
    redis_url: str = "",
    tracer: Tracer | None = None,
    **others: object,
) -> AsyncIterator[Front]:
    """Run a gateway, and wait until it is ready; `others` are settings of it."""
    pem = state_dir / "authority.pem"
    authority.cert_pem.write_to_path(str(pem))
    async with (
        name_server() as names,
        serving(Upstream(), authority.issue_cert(HOST, OTHER)) as upstream,
        open_database(database_url, SETTINGS) as database,
        aiohttp.ClientSession() as http,
    ):
        names.records = {(HOST, "A"): ["127.0.0.1"], (OTHER, "A"): ["127.0.0.1"], ("example.org", "A"): ["127.0.0.1"]}
        settings = settings_from(settings_json(upstream, names, pem, **others), redis_url)
        world = World(http, upstream, names, database, state_dir)
        async with _standing(world, settings, tracer) as front:
            front.gateway.begin()
            if await_ready:
                await eventually(front.ready)
                while not await database.fetchval("SELECT true FROM subscribers"):  # noqa: ASYNC110 - no event
                    await asyncio.sleep(POLL_S)
            yield front


@asynccontextmanager
async def open_next(front: Front, settings: GatewaySettings | None = None) -> AsyncIterator[Front]:
    """Run another gateway of the same name in the same world; it is yet to begin, or to succeed."""
    world = World(front.http, front.upstream, front.names, front.database, front.state_dir)
    async with _standing(world, settings or front.settings, None) as other:
        yield other


async def hand_over(old: Front, new: Front) -> None:
    """Have one gateway succeed another over a real channel."""
    ours, theirs = channel_pair()
    await asyncio.gather(
        new.gateway.succeed(partial(Channel, ours)),
        old.gateway.retire(partial(Channel, theirs)),
    )


@dataclass(frozen=True)
class World:
    """What gateways stand between."""

    http: aiohttp.ClientSession
    upstream: Upstream
    names: Names
    database: Database
    state_dir: Path


@asynccontextmanager
async def _standing(world: World, settings: GatewaySettings, tracer: Tracer | None) -> AsyncIterator[Front]:
    log = CapturingLogger()
    bound = structlog.wrap_logger(log, processors=[])
    statuses: list[int] = []
    edge = Edge(
        name="api-gateway",
        log=bound,
        clock=Clock(),
        http=world.http,
        metrics=Metrics(),
        open_database=lambda: nullcontext(world.database),
        doors={},
        tokens=verifier(),
        state_dir=world.state_dir,
    )
    async with Gateway(settings=settings, state_dir=world.state_dir).run(edge) as running:
        app = build_application(
            running.routes,
            title="api-gateway",
            version="0",
            log=bound,
            observe=lambda _request, _route, status, _seconds: statuses.append(status),
            moved=Gateway.moved,
            body_limit=Gateway.body_limit,
            tracer=tracer,
        )
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0, auto_decompress=Gateway.decompress)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield Front(
                base=f"http://127.0.0.1:{runner.addresses[0][1]}",
                http=world.http,
                upstream=world.upstream,
                names=world.names,
                database=world.database,
                log=log,
                edge=edge,
                statuses=statuses,
                gateway=running,
                settings=settings,
                state_dir=world.state_dir,
            )
        finally:
            await runner.cleanup()
