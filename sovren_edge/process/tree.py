"""Owns the tree of workers: its start, what takes the place of what at a reload or an upgrade, and its end.

Must not know signals, nor how a configuration is found.
"""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from structlog.typing import FilteringBoundLogger

from sovren_edge.config.histories import histories_of
from sovren_edge.config.model import Config
from sovren_edge.config.plan import Plan
from sovren_edge.errors import EdgeError, Side, StartupError, told_together
from sovren_edge.observe.log import LogWriter
from sovren_edge.observe.registry import Source
from sovren_edge.process.certificates import load_certificates
from sovren_edge.process.channel import Channel, take_socket
from sovren_edge.process.generation import Left, LeftLife
from sovren_edge.process.keeper import Keeper, Shelter, State
from sovren_edge.process.life import Life, adopt_life, environment
from sovren_edge.process.parts import STORING, Part, Role, divide
from sovren_edge.process.ports import Ports, addresses_of
from sovren_edge.process.questions import ByHand, Questions
from sovren_edge.process.tree_metrics import Counts, TreeCollector
from sovren_edge.store.migrations import check, migrate

# Workers end in this order: those before need the ones after.
ENDING = ((Role.HANDLERS,), (Role.GATEWAY, Role.BALANCE), (Role.OPERATE,), (Role.LOCAL,))
STILL_RETIRING = "workers of the generation before still finish their requests: try again later"


class Loaded(NamedTuple):
    """A configuration that was judged, what this call makes of it, and the names of variables that hold its secrets."""

    plan: Plan
    config: Config
    secrets: frozenset[str]


@dataclass(frozen=True, slots=True)
class Means:
    """What the tree is made with; `load` raises StartupError with every fault of the configuration as it is now."""

    load: Callable[[], Loaded]
    ports: Ports
    counts: Counts
    by_hand: ByHand
    state_dir: Path
    port_offset: int
    log: FilteringBoundLogger
    writer: LogWriter


class WorkerTree:
    """All workers by name; `loaded` is what they serve."""

    def __init__(self, loaded: Loaded, means: Means) -> None:
        self.loaded = loaded
        self.keepers: dict[str, Keeper] = {}
        self._means = means
        self._ports = means.ports
        self.counts = means.counts
        self._log = means.log
        self._database_url: str | None = None
        self._changing = asyncio.Lock()
        # What keeps each worker alive; and what ends with those that are to go.
        self._keeping: dict[Keeper, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        # The supervisor's own series.
        self.sources = [Source(TreeCollector(means.counts, self.keepers)), Source(means.writer)]
        questions = Questions(
            counts=means.counts,
            keepers=self.keepers,
            by_hand=means.by_hand,
            sources=self.sources,
            reload=self.reload_for_operator,
            node=lambda: self.loaded.plan.node,
        )
        self._shelter = Shelter(
            sockets=means.ports.of,
            methods=questions.methods(),
            environ=lambda: environment(os.environ, self.loaded.secrets),
            by_hand=means.by_hand,
            give_up=self._give_up,
            log=means.log,
        )

    # --- beginning

    async def start(self) -> None:
        """Begin every worker; StartupError names all that cannot begin."""
        parts = self._divide(self.loaded)

        async def start_those_that_store() -> None:
            self._database_url = await self._open_database(parts)
            await self._start_all(part for part in parts.values() if part.role in STORING)

        others = [part for part in parts.values() if part.role not in STORING and part.role is not Role.LOCAL]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(start_those_that_store())
                group.create_task(self._start_all(others))
        except* StartupError as errors:
            raise StartupError(told_together(errors)) from None

    async def _start_all(self, parts: Iterable[Part]) -> None:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(self._start(part))

    async def _start(self, part: Part) -> Keeper:
        keeper = self.keepers[part.name] = self._keeper(self._with_database(part))
        await keeper.start()
        self._watch(keeper)
        return keeper

    def _keeper(self, part: Part, life: Life | None = None) -> Keeper:
        return Keeper(part, self._shelter, self.counts.of[part.name], life)

    def _watch(self, keeper: Keeper) -> None:
        if keeper not in self._keeping:
            self._keeping[keeper] = asyncio.create_task(keeper.keep())

    def _divide(self, loaded: Loaded) -> dict[str, Part]:
        return divide(loaded.plan, loaded.config, self._means.state_dir, self._means.port_offset)

    def _with_database(self, part: Part) -> Part:
        return replace(part, database_url=self._database_url) if part.role in STORING else part

    # --- the database

    async def _open_database(self, parts: Mapping[str, Part]) -> str | None:
        """Return the database's URL: the local stack's, or the configured one; its schema suits this program."""
        config = self.loaded.config
        local = next((part for part in parts.values() if part.role is Role.LOCAL), None)
        if local is not None:
            url = str((await self._start(local)).answer["database_url"])
            await self._migrate(url, config)
            return url
        return await self._check_database(self.loaded)

    async def _migrate(self, url: str, config: Config) -> None:
        applied = await migrate(url, config.database.schema_name, histories_of(config))
        self._log.info("schema_migrated", schema=config.database.schema_name, applied=len(applied))

    async def _check_database(self, loaded: Loaded) -> str | None:
        config = loaded.config
        if config.database.url is None:
            return None
        url, histories = config.database.url.get_secret_value(), histories_of(config)
        try:
            faults = await check(url, config.database.schema_name, histories) if histories else []
        except EdgeError as error:
            # A database that is away is no reason not to start: /ready tells.
            self._log.warning("schema_not_checked", why=str(error), cause=type(error.__cause__).__name__)
            return url
        if faults:
            raise StartupError("\n".join(faults))
        return url

    def _give_up(self, part: Part) -> None:
        """Close the ports of a worker that has failed, but for those that another one serves as well."""
        others = [
            addresses_of(keeper.part.plan)
            for keeper in self.keepers.values()
            if keeper.part.name != part.name and keeper.state is not State.FAILED
        ]
        self._ports.close(addresses_of(part.plan).difference(*others))

    # --- change

    @property
    def awake(self) -> bool:
        """Whether every worker answers, or is being begun anew."""
        return all(keeper.awake for keeper in self.keepers.values())

    @property
    def retiring(self) -> bool:
        """Whether an older generation still finishes its requests."""
        return any(keeper.retiring is not None for keeper in self.keepers.values())

    async def reload_for_operator(self) -> dict[str, object]:
        """Reload, as `reload` does; EdgeError 422 has every fault."""
        try:
            return await self.reload()
        except StartupError as error:
            raise EdgeError(422, "reload_refused", str(error), side=Side.CALLER) from None

    async def reload(self) -> dict[str, object]:
        """Apply what is different in the configuration; StartupError has every fault, and then nothing has changed."""
        async with self._changing:
            try:
                loaded = await asyncio.to_thread(self._means.load)
                load_certificates(loaded.plan.listeners)
                if not loaded.plan.local:
                    self._database_url = await self._check_database(loaded)
                changed = await self._become(loaded)
            except StartupError as error:
                self.counts.reloads["refused"] += 1
                self._log.error("reload_refused", why=str(error))
                raise
            self.counts.reloads["applied"] += 1
            self._log.info("reloaded", **changed)
            return changed

    async def take_over(self, left: Left) -> None:
        """Have new workers succeed those that the program before this one has left: all of them, or none."""
        methods, parts = self._shelter.methods, self._divide(self.loaded)
        lives = {
            one.name: adopt_life(one.name, one.pid, Channel(take_socket(one.descriptor), methods)) for one in left.lives
        }
        self._log.info("took_over", generation=self.counts.generation, workers=sorted(lives))
        for name, life in lives.items():
            # Of one that is no longer wanted nothing is known but that it has to go.
            self.keepers[name] = self._keeper(parts.get(name, Part.unknown(name, self.loaded.plan)), life)
        self._database_url = left.database_url
        try:
            if not self.loaded.plan.local:
                self._database_url = await self._check_database(self.loaded)
            elif left.database_url is not None:
                await self._migrate(left.database_url, self.loaded.config)
            await self._become(self.loaded)
            self.counts.upgrades["done"] += 1
        except StartupError as error:
            self.counts.upgrades["failed"] += 1
            self._log.error("upgrade_failed", why=str(error), advice="the workers of the program before serve on")
        for keeper in self.keepers.values():
            self._watch(keeper)

    async def _become(self, loaded: Loaded) -> dict[str, object]:
        """Serve something else: whatever can fail is done before anything changes, and then raises StartupError."""
        parts = {name: self._with_database(part) for name, part in self._divide(loaded).items()}
        keepers = {name: self.keepers.get(name) or self._keeper(part) for name, part in parts.items()}
        replaced = sorted(name for name, part in parts.items() if keepers[name].must_begin_anew(part))
        if any(keepers[name].retiring is not None for name in replaced):
            raise StartupError(STILL_RETIRING)
        new = self._ports.bind(loaded.plan)
        prepared: dict[str, Life] = {}
        try:
            async with asyncio.TaskGroup() as group:
                for name in replaced:
                    group.create_task(self._prepare(keepers[name], parts[name], prepared))
        except* StartupError as errors:
            for life in prepared.values():
                life.kill()
            self._ports.close(new)
            raise StartupError(told_together(errors)) from None
        self.loaded, drain_s = loaded, loaded.config.edge.drain_s
        changed = sorted(
            name
            for name, part in parts.items()
            if keepers[name].serves and name not in prepared and keepers[name].part != part
        )
        for name in changed:
            try:
                await keepers[name].change(parts[name])
            except EdgeError as error:
                self._log.error("worker_not_changed", worker=name, why=error.problem.detail)
        for name, life in prepared.items():
            retired = await keepers[name].succeed(parts[name], life, drain_s)
            if retired is not None:
                self._later(retired)
            self.keepers[name] = keepers[name]
            self._watch(keepers[name])
        ended = sorted(self.keepers.keys() - parts.keys())
        for name in ended:
            self._later(self._end(self.keepers.pop(name), drain_s))
        self._ports.keep_only(loaded.plan)
        return {"changed": changed, "begun": replaced, "ended": ended}

    async def _prepare(self, keeper: Keeper, part: Part, prepared: dict[str, Life]) -> None:
        prepared[part.name] = await keeper.prepare(part)

    def _later(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, keeper: Keeper, drain_s: float) -> None:
        keeping = self._keeping.pop(keeper, None)
        if keeping is not None:
            keeping.cancel()
        await keeper.stop(drain_s)

    def reopen_logs(self) -> None:
        """Have every process open the log's file anew."""
        for keeper in self.keepers.values():
            keeper.tell("reopen_log")

    def leave(self) -> Left:
        """Return what the next program, under the same process id, takes over."""
        lives = tuple(
            LeftLife(name, keeper.life.pid, keeper.life.channel.socket.fileno())
            for name, keeper in self.keepers.items()
            if keeper.life is not None and keeper.life.exit_status is None
        )
        sockets = tuple((host, port, listening.fileno()) for (host, port), listening in self._ports.all())
        return Left(
            self.counts.generation, lives, sockets, self._means.by_hand, self._database_url, self.counts.outliving()
        )

    # --- end

    async def stop(self) -> int:
        """Say that the program is about to stop, let requests finish, and end; return how many were cut."""
        edge, cut_before = self.loaded.config.edge, self.counts.cut
        for keeping in self._keeping.values():
            keeping.cancel()
        if edge.unready_s:
            for keeper in self.keepers.values():
                keeper.tell("unready")
            await asyncio.sleep(edge.unready_s)
        deadline = time.monotonic() + edge.drain_s
        for roles in ENDING:
            ending = [keeper for keeper in self.keepers.values() if keeper.part.role in roles]
            for keeper in ending:
                self._ports.close_part(keeper.part)
            left_s = max(0.0, deadline - time.monotonic())
            await asyncio.gather(*(keeper.stop(left_s) for keeper in ending))
        return self.counts.cut - cut_before

    def kill(self) -> None:
        """End every worker at once."""
        for keeper in self.keepers.values():
            keeper.kill()

    async def close(self) -> None:
        """Leave no process behind."""
        for task in (*self._ending, *self._keeping.values()):
            task.cancel()
        self.kill()
        await asyncio.gather(*(keeper.gone() for keeper in self.keepers.values()))
