"""Owns the way to Redis: one connection, over which scripts are called in groups, the next as soon as one is answered.

Must not know what scripts do. A call that fails for a connection that was lost is made once more, and whoever calls may
do so as well, since every script does the same thing once however often it is called. Nobody waits longer than CALL_S.

A server that restarts closes its connections, so its run id is asked for whenever one is made, and scripts are told it:
no call needs a round trip of its own for that. (Redis must be one server, with nothing in between that hides its
restarts, and no failover to another that lacks some of its data.) A server that evicts keys would forget grants, and is
not used.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import NoScriptError, RedisError, ResponseError
from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import StartupError
from sovren_edge.gateway.clocks import boot_us
from sovren_edge.gateway.limit.grants import unavailable
from sovren_edge.gateway.limit.redis_clock import RedisClock
from sovren_edge.gateway.limit.redis_scripts import ALL, Script

CALL_S = 0.25
GROUP_MOST = 200
POLICY = "noeviction"

Argument = str | int
Reply = list[bytes | int]


class EvictingError(Exception):
    """The server may drop grants when its memory is full; the message is for the operator."""


@dataclass(slots=True, eq=False)
class _Call:
    script: Script
    keys: Sequence[str]
    arguments: Sequence[Argument]
    until_us: int
    reply: "asyncio.Future[Reply]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class RedisLink:
    """Calls scripts; made by `open_redis`."""

    def __init__(self, url: str, log: FilteringBoundLogger, now_us: Callable[[], int]) -> None:
        pool = ConnectionPool.from_url(url, protocol=2, socket_connect_timeout=CALL_S, socket_timeout=None)
        # The pool only reads the URL: this is its one connection.
        self._connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
        self._log = log
        self._now_us = now_us
        self._run = ""
        self._waiting: list[_Call] = []
        self._wake = asyncio.Event()
        self._trouble: str | None = None
        self.clock = RedisClock()

    @property
    def run_id(self) -> str:
        """The server's run id when it was last connected to, nothing before."""
        return self._run

    def now_us(self) -> int:
        """Return what Redis's clock shows."""
        return self.clock.at(self._now_us())

    def post(self, script: Script, keys: Sequence[str], *arguments: Argument) -> "asyncio.Future[Reply]":
        """Call a script behind all that was called before; its answer comes, or the future raises EdgeError 503."""
        call = _Call(script, keys, arguments, self._now_us() + int(CALL_S * 1e6))
        self._waiting.append(call)
        self._wake.set()
        return call.reply

    async def call(self, script: Script, keys: Sequence[str], *arguments: Argument) -> Reply:
        """Call a script and return its answer; raises EdgeError 503 if there is none in time."""
        try:
            async with asyncio.timeout(CALL_S):
                return await self.post(script, keys, *arguments)
        except TimeoutError:
            raise unavailable() from None

    async def check(self) -> None:
        """Connect; raises StartupError for a server that evicts keys, while one that is away is no fault."""
        try:
            async with asyncio.timeout(CALL_S):
                await self._connect()
        except EvictingError as error:
            raise StartupError(str(error)) from None
        except (RedisError, OSError) as error:
            self._tell(error)

    async def run(self) -> None:
        """Call what is to be called, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                group, self._waiting = self._waiting[:GROUP_MOST], self._waiting[GROUP_MOST:]
                # Whoever is done has left.
                await self._send([call for call in group if not call.reply.done()])

    async def _send(self, group: list[_Call]) -> None:
        """Call a group, a second time if its connection was lost, and tell each caller."""
        fresh = not self._connection.is_connected
        try:
            async with asyncio.timeout(CALL_S):
                try:
                    await self._exchange(group)
                except (RedisError, ConnectionError):
                    if fresh:
                        raise
                    await self._exchange([call for call in group if not call.reply.done()])
        except (RedisError, OSError, EvictingError) as error:
            self._tell(error)
            for call in group:
                _fail(call)

    async def _exchange(self, group: list[_Call]) -> None:
        """Send all, and take the answers in order; whatever happens amid that, the connection is not used again."""
        connection = self._connection
        try:
            await self._connect()
            await connection.send_packed_command(connection.pack_commands(map(self._command, group)))
            replies = [await self._read() for _ in group]
            for call, reply in zip(group, replies, strict=True):
                if isinstance(reply, NoScriptError):
                    await connection.send_command("EVAL", call.script.lua, *self._command(call)[2:])
                    self._answer(call, await self._read())
                else:
                    self._answer(call, reply)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    def _command(self, call: _Call) -> tuple[Argument, ...]:
        latest_us = self.clock.at(call.until_us)
        return ("EVALSHA", call.script.sha, len(call.keys), *call.keys, self._run, latest_us, *call.arguments)

    async def _read(self) -> Reply | ResponseError:
        try:
            reply: Reply = await self._connection.read_response()
        except ResponseError as error:
            return error
        return reply

    def _answer(self, call: _Call, reply: Reply | ResponseError) -> None:
        if isinstance(reply, ResponseError):
            self._tell(reply)
            _fail(call)
            return
        self._tell(None)
        if step_us := self.clock.saw(int(reply[1]), self._now_us()):
            # Grants of so long ago are forgotten too early.
            self._log.error("redis_clock_stepped_forward", step_s=step_us / 1e6)
        if not call.reply.done():
            call.reply.set_result(reply)

    async def _connect(self) -> None:
        """Make the connection if there is none, and see which server it leads to."""
        connection = self._connection
        if connection.is_connected:
            return
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            asked = [("INFO", "server"), ("INFO", "memory"), ("TIME",), *(("SCRIPT", "LOAD", each.lua) for each in ALL)]
            await connection.send_packed_command(connection.pack_commands(asked))
            server, memory, (seconds, us), *_ = [await connection.read_response() for _ in asked]
            _check_policy(memory)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._run = _field(server, "run_id")
        if step_us := self.clock.saw(int(seconds) * 1_000_000 + int(us), self._now_us()):
            self._log.error("redis_clock_stepped_forward", step_s=step_us / 1e6)

    def _tell(self, error: Exception | None) -> None:
        """Log when Redis goes, why, and when it is back."""
        trouble = None if error is None else f"{type(error).__name__}: {error}"
        if trouble is not None and self._trouble is None:
            self._log.error("redis_unavailable", why=trouble)
        elif trouble is None and self._trouble is not None:
            self._log.info("redis_available")
        self._trouble = trouble

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.disconnect(nowait=True)


def word_of(reply: Reply) -> str:
    """Return what a script says first."""
    word = reply[0]
    return word.decode() if isinstance(word, bytes) else ""


def _fail(call: _Call) -> None:
    if not call.reply.done():
        call.reply.set_exception(unavailable())
        # Whoever waited may have left.
        call.reply.exception()


def _check_policy(memory: bytes) -> None:
    if (policy := _field(memory, "maxmemory_policy")) != POLICY:
        raise EvictingError(f"Redis has maxmemory-policy {policy}: grants need {POLICY}, or they may be dropped")


def _field(info: bytes, name: str) -> str:
    """Return a field of what INFO answers."""
    for line in info.decode().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value
    return ""


@asynccontextmanager
async def open_redis(
    url: str, log: FilteringBoundLogger, now_us: Callable[[], int] = boot_us
) -> AsyncIterator[RedisLink]:
    """Connect to Redis, which may be away, until the block ends; raises StartupError for one that evicts keys."""
    link = RedisLink(url, log, now_us)
    try:
        await link.check()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(link.run())
            try:
                yield link
            finally:
                running.cancel()
    finally:
        await link.close()
