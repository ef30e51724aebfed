"""Owns the admin socket: looking at the running program and changing it.

It is a Unix socket that only the program's own user (and root) can open; no port leads here. Every command is one line
in the log, with the user that gave it and what was asked, also when it is refused or only looks. Must not know the
command line, nor how a command is carried out: other processes are asked.
"""

import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError, Problem, Side
from sovren_edge.process.pool_commands import read_change

_CREDENTIALS = struct.Struct("3i")
# Where a command says what is logged of it; and as many characters of one thing as a line may have.
_ASKED, _LOGGED = "asked", 200

Ask = Callable[..., Awaitable[Any]]
"""`ask(command, **given)` has a command carried out and returns its answer; EdgeError says why it was not."""


class Admin:
    """The commands."""

    def __init__(self, ask: Ask, log: FilteringBoundLogger) -> None:
        self._ask = ask
        self._log = log

    def routes(self) -> Sequence[web.RouteDef]:
        """Return where each command is, under the name by which it is logged."""
        return (
            web.get("/pools", self._asking("pools"), name="pools_shown"),
            web.patch("/endpoints/{endpoint}", self._change, name="endpoint_changed"),
            web.get("/kept", self._asking("kept"), name="kept_answers_shown"),
            web.delete("/kept", self._forget_kept, name="kept_answers_forgotten"),
            web.get("/top", self._asking("top"), name="top_shown"),
            web.post("/reload", self._asking("reload"), name="reload_asked"),
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
            # Whoever watches looks once a second.
            tell = self._log.debug if request.method == "GET" and request.path == "/top" else self._log.info
            tell(str(request.match_info.route.name), **asked, uid=uid)
            return answer
        why = problem.detail[:_LOGGED]
        self._log.info("command_refused", command=command, **asked, reason=problem.reason, why=why, uid=uid)
        return web.Response(status=problem.status, headers=dict(problem.headers), body=problem.body())

    def _asking(self, command: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def ask(_request: web.Request) -> web.Response:
            return web.json_response(await self._ask(command))

        return ask

    async def _forget_kept(self, request: web.Request) -> web.Response:
        request[_ASKED]["answers"] = await self._ask("forget_kept")
        return web.json_response(await self._ask("kept"))

    async def _change(self, request: web.Request) -> web.Response:
        name = request.match_info["endpoint"]
        change = read_change(await request.read()).model_dump(exclude_none=True)
        request[_ASKED] |= change
        pool = await self._ask("change_endpoint", endpoint=name, change=change)
        request[_ASKED] |= {"pool": pool["name"], "endpoint": name}
        return web.json_response(pool)


def _uid(request: web.Request) -> int:
    """Return the user that gave a command."""
    connection = None if request.transport is None else request.transport.get_extra_info("socket")
    if connection is None or not hasattr(socket, "SO_PEERCRED"):
        return -1
    return int(_CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[1])


@asynccontextmanager
async def open_admin(path: Path, admin: Admin, log: FilteringBoundLogger, *, succeeds: bool) -> AsyncIterator[None]:
    """Serve the commands until the block ends; where the socket cannot be made, say so and do without.

    With `succeeds` the one that answers there now is of this same program, and is about to end.
    """
    try:
        listening = _bind(path, succeeds=succeeds)
    except OSError as error:
        log.warning("admin_socket_unavailable", path=str(path), why=error.strerror or str(error))
        yield
        return
    mine = path.stat().st_ino  # noqa: ASYNC240 - one system call, at the start of the program
    app = web.Application(middlewares=[admin.record])
    app.add_routes(admin.routes())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    try:
        await runner.setup()
        await web.SockSite(runner, listening).start()
        yield
    finally:
        await runner.cleanup()
        with suppress(FileNotFoundError):
            # A successor may have put its own there.
            if path.stat().st_ino == mine:  # noqa: ASYNC240 - the same, at its end
                path.unlink()  # noqa: ASYNC240 - the same


def _bind(path: Path, *, succeeds: bool) -> socket.socket:
    """Bind the socket; one that a program has left behind is replaced, one that somebody answers at is not."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        if not succeeds and other.connect_ex(str(path)) == 0:
            raise OSError(errno.EADDRINUSE, "another program answers there")
    beside = path.with_name(f".{os.getpid():x}")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        beside.unlink(missing_ok=True)
        listening.bind(str(beside))
        # Nobody can connect before it listens, and then it is closed to others.
        beside.chmod(0o600)
        listening.listen()
        listening.setblocking(False)  # noqa: FBT003 - the library's signature
        beside.replace(path)
    except OSError:
        listening.close()
        beside.unlink(missing_ok=True)
        raise
    return listening
