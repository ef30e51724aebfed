"""Owns the admin socket: looking at pools and changing their endpoints while the program runs.

It is a Unix socket that only the program's own user (and root) can open; no port leads here. Every command is one line
in the log, with the user that gave it and what was asked, also when it is refused or only looks. What is changed holds
until the program ends. Must not know the command line.
"""

import errno
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from structlog.typing import FilteringBoundLogger

from pools.endpoint import Endpoint
from pools.pool import Pool
from sovren_edge.errors import EdgeError, Problem, Side
from sovren_edge.relay.metrics import describe_pool
from sovren_edge.relay.relay import Relay
from sovren_edge.speech.keep import Keep

MOST_SLOTS, LEAST_WEIGHT, MOST_WEIGHT = 100_000, 0.01, 100.0
_CREDENTIALS = struct.Struct("3i")
# Where a command says what is logged of it; and as many characters of one thing as a line may have.
_ASKED, _LOGGED = "asked", 200


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
        """Return where each command is, under the name by which it is logged."""
        return (
            web.get("/pools", self._show, name="pools_shown"),
            web.patch("/endpoints/{endpoint}", self._change, name="endpoint_changed"),
            web.get("/kept", self._show_kept, name="kept_answers_shown"),
            web.delete("/kept", self._forget_kept, name="kept_answers_forgotten"),
        )

    @web.middleware
    async def record(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Carry a command out and log it, once, whatever becomes of it."""
        # Whoever gives it may be gone when it has been carried out.
        uid, asked = _uid(request), dict[str, object]()
        request[_ASKED] = asked
        command = f"{request.method} {request.path}"[:_LOGGED]
        try:
            answer = await handler(request)
        except EdgeError as error:
            problem = error.problem
        except web.HTTPException as error:
            problem = Problem(error.status, "unknown_command", f"{command}: {error.reason}.", Side.CALLER)
        except BaseException:
            self._log.error("command_failed", command=command, **asked, uid=uid)
            raise
        else:
            self._log.info(str(request.match_info.route.name), **asked, uid=uid)
            return answer
        why = problem.detail[:_LOGGED]
        self._log.info("command_refused", command=command, **asked, reason=problem.reason, why=why, uid=uid)
        return web.Response(status=problem.status, headers=dict(problem.headers), body=problem.body())

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
        request[_ASKED]["answers"] = sum(keep.clear() for keep in self._keeps.values())
        return web.json_response(self._describe_kept())

    async def _change(self, request: web.Request) -> web.Response:
        name = request.match_info["endpoint"]
        change = _read_change(await request.read())
        request[_ASKED] |= change.model_dump(exclude_none=True)
        found = [(pool, one) for pool in self._pools.values() for one in pool.endpoints if one.name == name]
        if not found:
            raise EdgeError(404, "unknown_endpoint", f"No endpoint is named {name}.", side=Side.CALLER)
        pool, endpoint = found[0]
        self._apply(pool, endpoint, change)
        request[_ASKED] |= {"pool": pool.name, "endpoint": name}
        return web.json_response(describe_pool(pool, self._relay.stats_of(pool)))

    def _apply(self, pool: Pool, endpoint: Endpoint, change: Change) -> None:
        now = self._relay.now()
        if change.weight is not None:
            pool.weigh(endpoint, change.weight)
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


def _read_change(body: bytes) -> Change:
    """Return what is to be changed; raises EdgeError 422, which names the place of each fault, no value."""
    try:
        return Change.model_validate_json(body)
    except ValidationError as error:
        faults = [f"{fault['loc'][0] if fault['loc'] else 'body'}: {fault['msg']}" for fault in error.errors()]
        raise EdgeError(422, "invalid_change", "; ".join(faults), side=Side.CALLER) from None


@asynccontextmanager
async def open_admin(path: Path, admin: Admin, log: FilteringBoundLogger) -> AsyncIterator[None]:
    """Serve the commands until the block ends; where the socket cannot be made, say so and do without."""
    try:
        listening = _bind(path)
    except OSError as error:
        log.warning("admin_socket_unavailable", path=str(path), why=error.strerror or str(error))
        yield
        return
    app = web.Application(middlewares=[admin.record])
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
