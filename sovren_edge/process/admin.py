"""Owns the admin socket: looking at pools and changing their endpoints while the program runs.

It is a Unix socket that only the program's own user (and root) can open; no port leads here. Every command is logged
with the user that gave it. What is changed holds until the program ends. Must not know the command line.
"""

import errno
import socket
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from structlog.typing import FilteringBoundLogger

from pools.endpoint import Endpoint
from pools.pool import Pool
from sovren_edge.errors import Problem, Side
from sovren_edge.relay.metrics import describe_pool
from sovren_edge.relay.relay import Relay
from sovren_edge.speech.keep import Keep

MOST_SLOTS, LEAST_WEIGHT, MOST_WEIGHT = 100_000, 0.01, 100.0
_CREDENTIALS = struct.Struct("3i")


class Change(BaseModel):
    """What is to be different about an endpoint; what is left out stays."""

    model_config = ConfigDict(strict=True, extra="forbid")

    enabled: bool | None = None
    slots: Annotated[int, Field(ge=1, le=MOST_SLOTS)] | None = None
    weight: Annotated[float, Field(ge=LEAST_WEIGHT, le=MOST_WEIGHT)] | None = None


class Admin:
    """The commands."""

    def __init__(
        self, relay: Relay, pools: Mapping[str, Pool], keeps: Mapping[str, Keep], log: FilteringBoundLogger
    ) -> None:
        self._relay = relay
        self._pools = pools
        self._keeps = keeps
        self._log = log

    def routes(self) -> Sequence[web.RouteDef]:
        """Return where each command is."""
        return (
            web.get("/pools", self._show),
            web.patch("/endpoints/{endpoint}", self._change),
            web.get("/kept", self._show_kept),
            web.delete("/kept", self._forget_kept),
        )

    async def _show(self, _request: web.Request) -> web.Response:
        return web.json_response([describe_pool(pool, self._relay.stats_of(pool)) for pool in self._pools.values()])

    async def _show_kept(self, _request: web.Request) -> web.Response:
        return web.json_response(self._describe_kept())

    def _describe_kept(self) -> list[dict[str, object]]:
        described = []
        for name, pool in self._pools.items():
            if pool.settings.keep_bytes:
                stats = self._relay.stats_of(pool)
                described.append({
                    "pool": name, "answers": stats.kept_answers, "bytes": stats.kept_bytes,
                    "limit": pool.settings.keep_bytes, "served": stats.kept_served,
                })  # fmt: skip
        return described

    async def _forget_kept(self, request: web.Request) -> web.Response:
        forgotten = sum(keep.clear() for keep in self._keeps.values())
        self._log.info("kept_answers_forgotten", answers=forgotten, uid=_uid(request))
        return web.json_response(self._describe_kept())

    async def _change(self, request: web.Request) -> web.Response:
        name = request.match_info["endpoint"]
        try:
            change = Change.model_validate_json(await request.read())
        except ValidationError as error:
            faults = "; ".join(
                f"{fault['loc'][0] if fault['loc'] else 'body'}: {fault['msg']}" for fault in error.errors()
            )
            return _refusal(422, "invalid_change", faults)
        found = [(pool, one) for pool in self._pools.values() for one in pool.endpoints if one.name == name]
        if not found:
            return _refusal(404, "unknown_endpoint", f"No endpoint is named {name}.")
        pool, endpoint = found[0]
        asked = change.model_dump(exclude_none=True)
        self._log.info("endpoint_changed", pool=pool.name, endpoint=name, **asked, uid=_uid(request))
        self._apply(pool, endpoint, change)
        return web.json_response(describe_pool(pool, self._relay.stats_of(pool)))

    def _apply(self, pool: Pool, endpoint: Endpoint, change: Change) -> None:
        now = self._relay.now()
        if change.weight is not None:
            endpoint.weight = change.weight
        if change.slots is not None:
            self._relay.act(pool.resize(endpoint, change.slots, now))
        if change.enabled is not None:
            self._relay.act(pool.enable(endpoint, now, enabled=change.enabled))


def _uid(request: web.Request) -> int:
    """Return the user that gave a command."""
    connection = None if request.transport is None else request.transport.get_extra_info("socket")
    if connection is None or not hasattr(socket, "SO_PEERCRED"):
        return -1
    return int(_CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[1])


def _refusal(status: int, reason: str, detail: str) -> web.Response:
    problem = Problem(status, reason, detail, Side.CALLER)
    return web.Response(status=status, headers=dict(problem.headers), body=problem.body())


@asynccontextmanager
async def open_admin(path: Path, admin: Admin, log: FilteringBoundLogger) -> AsyncIterator[None]:
    """Serve the commands until the block ends; where the socket cannot be made, say so and do without."""
    try:
        listening = _bind(path)
    except OSError as error:
        log.warning("admin_socket_unavailable", path=str(path), why=error.strerror or str(error))
        yield
        return
    app = web.Application()
    app.add_routes(admin.routes())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    try:
        await runner.setup()
        await web.SockSite(runner, listening).start()
        yield
    finally:
        await runner.cleanup()
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - one system call, at the end of the program


def _bind(path: Path) -> socket.socket:
    """Bind the socket; one that a program has left behind is replaced, one that somebody answers at is not."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        if other.connect_ex(str(path)) == 0:
            raise OSError(errno.EADDRINUSE, "another program answers there")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listening.bind(str(path))
        # Nobody can connect before it listens, and then it is closed to others.
        path.chmod(0o600)
        listening.listen()
        listening.setblocking(False)  # noqa: FBT003 - the library's signature
    except OSError:
        listening.close()
        raise
    return listening
