"""Owns what the supervisor can ask of a worker that serves, and how it is carried out.

Must not know processes, nor how their parts were divided.
"""

import asyncio
import pickle
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import orjson
from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError, StartupError
from sovren_edge.local.socket_dir import admin_socket
from sovren_edge.observe.lag import LoopWatch, open_loop_watch
from sovren_edge.observe.log import LogWriter
from sovren_edge.observe.process_metrics import read_usage
from sovren_edge.observe.registry import Source, Told, families
from sovren_edge.process.admin import Admin, open_admin
from sovren_edge.process.channel import Channel, Message, Method, Reply, take_socket
from sovren_edge.process.composition import Worker, open_worker
from sovren_edge.process.parts import Part, Role
from sovren_edge.process.pool_commands import Change, PoolCommands
from sovren_edge.process.succession import SharedLimit, SharedSlots, Succession
from sovren_edge.relay.metrics import PoolsCollector

FIRST_READY_S = 60.0
# A worker that begins anew leaves its callers in the backlog for so long until it can do its work.
READY_S = 10.0
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Means:
    """What a worker serves with: its part, its listening sockets, what else it was told, and the way to others."""

    part: Part
    sockets: Mapping[str, socket.socket]
    given: Mapping[str, Any]
    channel: Channel
    log: FilteringBoundLogger
    writer: LogWriter


class Whole:
    """What the whole program has to tell; see doors.Everything."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._sources: list[Source] = []
        self._status: object = []

    async def refresh(self) -> None:
        """Ask the supervisor, who asks all workers."""
        reply = await self._channel.call("everything")
        told: dict[str, Any] = orjson.loads(reply.blob)
        self._sources = [Source(Told(series), {"worker": name}) for name, series in told["families"].items()]
        self._status = told["pools"]

    def sources(self) -> Iterable[Source]:
        """Return all series, as of the last refresh."""
        return self._sources

    def status(self) -> object:
        """Return the state of all pools, as of the last refresh."""
        return self._status


@asynccontextmanager
async def open_serving(means: Means) -> AsyncIterator[dict[str, Method]]:
    """Have everything ready until the block ends; yield what can be asked. Nobody comes in before `let_in`."""
    async with AsyncExitStack() as stack:
        whole = Whole(means.channel)
        worker = await stack.enter_async_context(
            open_worker(means.part, means.sockets, whole, log=means.log, writer=means.writer)
        )
        watch = await stack.enter_async_context(open_loop_watch(means.log))
        yield _Serving(means, worker, watch, stack).methods()


class _Serving:
    def __init__(self, means: Means, worker: Worker, watch: LoopWatch, stack: AsyncExitStack) -> None:
        self._means = means
        self._watch = watch
        self._worker = worker
        self._stack = stack
        self._succession = self._find_succession()
        self._commands = PoolCommands(worker)
        self._commands.obey(means.given.get("by_hand", {}))

    def methods(self) -> dict[str, Method]:
        """Return all of them by name."""
        commands = self._commands
        return {
            "let_in": self._let_in,
            "probed": self._probed,
            "change": self._change,
            "unready": lambda _message: self._worker.refuse_readiness(),
            "drain": self._drain,
            "give_way": self._give_way,
            "beat": lambda _message: self._beat(),
            "families": lambda _message: self._families(),
            "ports": lambda _message: self._ports(),
            "gateway": lambda _message: None if self._worker.gateway is None else self._worker.gateway.look(),
            "pools": lambda _message: commands.describe(),
            "change_endpoint": lambda message: commands.change(
                message.given["endpoint"], Change(**message.given["change"])
            ),
            "kept": lambda _message: commands.kept(),
            "forget_kept": lambda _message: commands.forget_kept(),
        }

    def _find_succession(self) -> Succession | None:
        """Return what this worker shares with the one before it, and with the one that follows."""
        if self._means.part.role is Role.BALANCE:
            return SharedSlots(self._worker)
        gateway = self._worker.gateway
        return None if gateway is None else SharedLimit(gateway)

    async def _let_in(self, message: Message) -> None:
        ends = [take_socket(descriptor) for descriptor in message.descriptors]
        if self._succession is None:
            for end in ends:
                end.close()
        elif ends:
            await self._succession.follow(ends[0])
        else:
            self._succession.begin()
            if message.given.get("again") and self._worker.gateway is not None:
                await self._become_ready()
        self._worker.let_in()
        part, log = self._means.part, self._means.log
        if part.role is Role.OPERATE:
            path, succeeds = admin_socket(part.state_dir), bool(message.given.get("succeeds"))
            await self._stack.enter_async_context(open_admin(path, Admin(self._ask, log), log, succeeds=succeeds))

    async def _change(self, message: Message) -> None:
        part: Part = pickle.loads(message.blob)  # noqa: S301 - from the process that started this one
        sockets = dict(zip(message.given["listeners"], map(take_socket, message.descriptors), strict=True))
        try:
            await self._worker.change(part, sockets)
        except StartupError as error:
            raise EdgeError(500, "cannot_change", str(error)) from None

    async def _become_ready(self) -> None:
        """Wait until a gateway grants, for as long as those who wait in the backlog may be left there."""
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                while not all(opened.pages.ready for opened in self._worker.doors):  # noqa: ASYNC110 - many lead to it
                    await asyncio.sleep(POLL_S)

    async def _ask(self, command: str, **given: object) -> object:
        return (await self._means.channel.call("command", command=command, given=given)).value

    async def _probed(self, _message: Message) -> bool:
        """Wait for the first round of probes, and with --local for the first engine."""
        worker, loop = self._worker, asyncio.get_running_loop()
        deadline = loop.time() + FIRST_READY_S
        local = self._means.part.plan.local
        speech = [pool for pool in worker.pools.values() if local and pool.settings.local is not None]

        def done() -> bool:
            return worker.probed and all(pool.ready for pool in speech)

        while not done() and loop.time() < deadline:  # noqa: ASYNC110 - many callbacks lead to it
            await asyncio.sleep(POLL_S)
        return done()

    async def _give_way(self, message: Message) -> None:
        for end in map(take_socket, message.descriptors):
            if self._succession is None:
                end.close()
            else:
                await self._succession.give_way(end)

    async def _drain(self, message: Message) -> dict[str, int]:
        given = message.given
        self._worker.close_doors(leave_backlog=given["leave_backlog"])
        await self._give_way(message)
        return {"cut": await self._worker.drain(given["drain_s"])}

    async def _beat(self) -> dict[str, object]:
        usage, lag = await read_usage(), self._watch.lag
        return {
            "busy": self._worker.busy,
            "loop_lag_p99_s": lag.p99_s,
            "loop_lag_max_s": lag.max_s,
            "rss_bytes": usage.resident_bytes,
            "descriptors": usage.descriptors,
            "cpu_s": usage.cpu_s,
        }

    def _ports(self) -> list[dict[str, object]]:
        return [
            {
                "name": listener.name,
                "port": listener.port,
                "kind": listener.kind,
                "ready": opened.pages.ready,
                "connections": opened.stats.connections,
                "requests": sum(opened.stats.requests.values()),
                "errors": opened.stats.errors,
            }
            for listener, opened in self._worker.openings.open_doors
        ]

    async def _families(self) -> Reply:
        usage = Source(await read_usage())
        return Reply(None, orjson.dumps(families([usage, *self._sources()])))

    def _sources(self) -> Iterable[Source]:
        worker = self._worker
        yield Source(self._means.writer)
        yield Source(self._watch)
        if worker.relay.tracer is not None:
            yield Source(worker.relay.tracer.recorder)
        for opened in worker.doors:
            yield from opened.sources
        if worker.pools:
            yield Source(PoolsCollector(tuple(worker.pools.values()), worker.relay.stats_of))
