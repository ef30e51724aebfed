"""A gateway in a process of its own, which a test may kill at any instant; many are started from one that is warm."""

import asyncio
import socket
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, process
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import structlog
import uvloop
from aiohttp import web

from sovren_edge.gateway.ledger import ledger
from sovren_edge.gateway.limit import redis_link, seeding
from sovren_edge.gateway.service import Gateway
from sovren_edge.handler import Clock, Edge, Metrics
from sovren_edge.handler.application import build_application
from sovren_edge.process.channel import Channel
from sovren_edge.store.database import open_database
from tests.gateway.databases import CALL_S, SETTINGS
from tests.gateway.gateway_stage import POLL_S, settings_from, verifier

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])
START_S = 30.0


@dataclass(frozen=True)
class Life:
    """What one process is told: settings as JSON, PostgreSQL, and where its state is; what it succeeds, if anything."""

    settings: bytes
    database_url: str
    state_dir: Path
    redis_url: str = ""
    succeeds: socket.socket | None = None


def run(life: Life, told: Connection) -> None:
    """Serve until killed; tell the port when the limiter grants."""
    log_file = (life.state_dir / "gateway.log").open("a", encoding="utf-8")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(log_file))
    redis_link.CALL_S = CALL_S
    # What its predecessor has left is looked for again so soon.
    ledger.RETRY_S = seeding.RETRY_S = POLL_S
    uvloop.run(_serve(life, told))


async def _serve(life: Life, told: Connection) -> None:
    async with open_database(life.database_url, SETTINGS) as database, aiohttp.ClientSession() as http:
        edge = Edge(
            name="api-gateway", log=structlog.get_logger(), clock=Clock(), http=http, metrics=Metrics(),
            open_database=lambda: nullcontext(database), doors={}, tokens=verifier(),
            state_dir=life.state_dir,
        )  # fmt: skip
        gateway = Gateway(settings=settings_from(life.settings, life.redis_url), state_dir=life.state_dir)
        async with gateway.run(edge) as running:
            if life.succeeds is None:
                running.begin()
            else:
                await running.succeed(partial(Channel, life.succeeds))
            app = build_application(
                running.routes,
                title="",
                version="0",
                log=edge.log,
                observe=lambda *_: None,
                body_limit=Gateway.body_limit,
            )
            runner = web.AppRunner(
                app, handler_cancellation=True, shutdown_timeout=1.0, auto_decompress=Gateway.decompress
            )
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            while not all(ready() for ready in edge.checks.values()):  # noqa: ASYNC110 - checks are asked
                await asyncio.sleep(POLL_S)
            told.send(runner.addresses[0][1])
            await asyncio.Event().wait()


class GatewayProcess:
    """One life: from its start until it is killed, at the end of the block at the latest."""

    def __init__(self, life: Life) -> None:
        self._told, other = CONTEXT.Pipe(duplex=False)
        self._process: process.BaseProcess = CONTEXT.Process(target=run, args=(life, other), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._told.close()

    async def port(self) -> int:
        """Return its port, once it grants."""
        if not await asyncio.to_thread(self._told.poll, START_S):
            raise TimeoutError("the gateway did not start")
        port: int = self._told.recv()
        return port

    def kill(self) -> None:
        """End it as nobody would."""
        self._process.kill()
        self._process.join()
