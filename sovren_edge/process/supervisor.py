"""Owns the life of the program: ports, workers, signals, reload, upgrade, stop. It serves no traffic itself.

Must not know what a worker is made of.
"""

import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from socket import socket
from typing import Any, NamedTuple

import orjson
from structlog.typing import FilteringBoundLogger

from sovren_edge.config.histories import histories_of
from sovren_edge.config.model import Config
from sovren_edge.config.plan import Plan
from sovren_edge.errors import EdgeError, Side, StartupError
from sovren_edge.observe.log import LogWriter, open_log
from sovren_edge.observe.registry import Source, families
from sovren_edge.process.certificates import load_certificates
from sovren_edge.process.channel import Channel, Message, Method, Reply, take_socket
from sovren_edge.process.generation import Left, LeftLife, find_left
from sovren_edge.process.keeper import Keeper, Shelter, State
from sovren_edge.process.life import Life, adopt_life, environment
from sovren_edge.process.own_command import own_command
from sovren_edge.process.parts import STORING, Part, Role, divide
from sovren_edge.process.screen import print_screen
from sovren_edge.process.sockets import Address, Wanted, bind_all
from sovren_edge.process.tree_metrics import Tree, TreeCollector
from sovren_edge.store.migrations import check, migrate

ANSWER_S = 3.0
# These are asked of the pools' worker.
POOL_COMMANDS = frozenset({"pools", "change", "kept", "forget_kept"})
# Workers end in this order: each is needed by those before it.
ENDING = ((Role.HANDLERS,), (Role.GATEWAY, Role.BALANCE), (Role.OPERATE,), (Role.LOCAL,))


class Loaded(NamedTuple):
    """A configuration that was judged, what this call makes of it, and the names of variables that hold its secrets."""

    plan: Plan
    config: Config
    secrets: frozenset[str]


@dataclass(frozen=True, slots=True)
class Launch:
    """One call of `serve`; `load` raises every fault at once, `judged_by` is a command that does so."""

    load: Callable[[], Loaded]
    judged_by: Sequence[str]
    state_dir: Path
    port_offset: int


def run(launch: Launch) -> int:
    """Serve until a signal; return the exit status. Raises StartupError when it cannot start."""
    loaded = launch.load()
    _raise_descriptor_limit()
    left = find_left(os.environ)
    with open_log(loaded.config.log) as (log, writer):
        return asyncio.run(_serve(launch, loaded, left, log, writer))


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as the system lets this process have: every caller and every endpoint needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(
    launch: Launch, loaded: Loaded, left: Left | None, log: FilteringBoundLogger, writer: LogWriter
) -> int:
    supervisor = Supervisor(launch, loaded, left, log, writer)
    asks: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        loop.add_signal_handler(number, asks.put_nowait, number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
    starting = asyncio.ensure_future(supervisor.start())
    ending = asyncio.ensure_future(_obey(supervisor, asks, starting))
    try:
        await asyncio.wait((starting, ending), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        await ending
    finally:
        for task in (starting, ending):
            task.cancel()
        await supervisor.end()
    return 0


async def _obey(
    supervisor: "Supervisor", asks: "asyncio.Queue[signal.Signals]", starting: "asyncio.Task[None]"
) -> None:
    """Do what signals ask for, one after the other, until one has stopped the program."""
    while True:
        number = await asks.get()
        match number:
            case signal.SIGINT | signal.SIGTERM:
                starting.cancel()
                stopping = asyncio.ensure_future(supervisor.stop())
                while not stopping.done():
                    again = asyncio.ensure_future(asks.get())
                    await asyncio.wait((stopping, again), return_when=asyncio.FIRST_COMPLETED)
                    if again.done() and again.result() in {signal.SIGINT, signal.SIGTERM}:
                        # The second signal does not wait for open requests.
                        supervisor.kill()
                    again.cancel()
                return await stopping
            case signal.SIGHUP if starting.done():
                await supervisor.reload_as_signalled()
            case signal.SIGUSR1:
                supervisor.reopen_log()
            case signal.SIGUSR2 if starting.done():
                await supervisor.upgrade()


class Supervisor:
    """The tree of processes."""

    def __init__(
        self, launch: Launch, loaded: Loaded, left: Left | None, log: FilteringBoundLogger, writer: LogWriter
    ) -> None:
        self._launch = launch
        self._loaded = loaded
        self._left = left
        self._log = log
        self._writer = writer
        self._sockets: dict[Address, socket] = {}
        self._keepers: dict[str, Keeper] = {}
        self._keeping: dict[Keeper, list[asyncio.Task[None]]] = {}
        self._by_hand: dict[str, Any] = {} if left is None else dict(left.by_hand)
        self._database_url: str | None = None
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.tree = Tree(generation=1 if left is None else left.generation + 1)
        if left is not None:
            self.tree.upgrades.update(left.counted.get("upgrades", {}))
            self.tree.reloads.update(left.counted.get("reloads", {}))
        methods: dict[str, Method] = {"command": self._command, "everything": self._everything}
        self._shelter = Shelter(self._sockets_of, methods, self._environ, self._by_hand, self._close_ports, log)

    # --- start

    async def start(self) -> None:
        """Bind every port, start every worker, and say that the program serves; StartupError if that cannot be."""
        load_certificates(self._loaded.plan.listeners)
        kept = (
            {}
            if self._left is None
            else {(host, port): socket(fileno=descriptor) for host, port, descriptor in self._left.sockets}
        )
        self._sockets = self._bind(self._loaded, kept)
        parts = self._divide(self._loaded)
        if self._left is not None:
            await self._take_over(self._left, parts)
        else:
            await self._start_all(parts)
        for address, listening in kept.items():
            if address not in self._sockets:
                listening.close()
        await self._announce()

    async def _start_all(self, parts: Mapping[str, Part]) -> None:
        async def with_database() -> None:
            self._database_url = await self._open_database(parts)
            await self._start_some([part for part in parts.values() if part.role in STORING])

        balancing = [part for part in parts.values() if part.role not in STORING and part.role is not Role.LOCAL]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(with_database())
                group.create_task(self._start_some(balancing))
        except* StartupError as errors:
            raise StartupError("\n".join(str(error) for error in _leaves(errors))) from None

    async def _start_some(self, parts: Sequence[Part]) -> None:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(self._start_one(part))

    async def _start_one(self, part: Part) -> Keeper:
        keeper = self._keep(part)
        await keeper.start()
        self._watch(keeper)
        return keeper

    def _keep(self, part: Part, life: Life | None = None) -> Keeper:
        part = self._with_database(part)
        keeper = self._keepers[part.name] = Keeper(part, self._shelter, self.tree.counted[part.name], life)
        return keeper

    def _watch(self, keeper: Keeper) -> None:
        self._keeping[keeper] = [asyncio.create_task(keeper.keep()), asyncio.create_task(keeper.beat())]

    def _with_database(self, part: Part) -> Part:
        return replace(part, database_url=self._database_url) if part.role in STORING else part

    async def _open_database(self, parts: Mapping[str, Part]) -> str | None:
        """Return the database's URL: the local stack's, or the configured one; its schema suits this program."""
        config = self._loaded.config
        histories, schema = histories_of(config), config.database.schema_name
        local = next((part for part in parts.values() if part.role is Role.LOCAL), None)
        if local is not None:
            keeper = await self._start_one(local)
            local_url = str(keeper.answer["database_url"])
            applied = await migrate(local_url, schema, histories)
            self._log.info("schema_migrated", schema=schema, applied=len(applied))
            return local_url
        url = None if config.database.url is None else config.database.url.get_secret_value()
        if histories and url is not None:
            await self._check_schema(url)
        return url

    async def _check_schema(self, url: str) -> None:
        config = self._loaded.config
        try:
            faults = await check(url, config.database.schema_name, histories_of(config))
        except EdgeError as error:
            # A database that is away is no reason not to start: /ready tells.
            self._log.warning("schema_not_checked", why=str(error), cause=type(error.__cause__).__name__)
            return
        if faults:
            raise StartupError("\n".join(faults))

    async def _announce(self) -> None:
        balance = self._keepers.get(Role.BALANCE.value)
        if balance is not None:
            try:
                await balance.ask("probed")
            except EdgeError as error:
                self._log.warning("pools_not_probed", why=str(error))
        plan = self._loaded.plan
        self._log.info("serving", listeners=len(plan.listeners), node=plan.node or "local")
        if sys.stdout.isatty() and self._left is None:
            pools = [] if balance is None else await balance.ask("pools")
            print_screen(plan, self._launch.state_dir, pools)

    # --- ports

    def _bind(self, loaded: Loaded, kept: Mapping[Address, socket]) -> dict[Address, socket]:
        plan = loaded.plan
        wanted = [Wanted(listener.name, listener.bind, listener.port) for listener in plan.listeners]
        if not kept:
            wanted += [Wanted(name, "127.0.0.1", port, ours=False) for name, port in plan.engines]
        wanted.sort(key=lambda one: one.port)
        return bind_all(wanted, loaded.config.edge.backlog, self._launch.port_offset, kept)

    def _sockets_of(self, part: Part) -> list[tuple[str, socket]]:
        return [(one.name, self._sockets[one.bind, one.port]) for one in part.plan.listeners]

    def _close_ports(self, part: Part) -> None:
        for listener in part.plan.listeners:
            listening = self._sockets.pop((listener.bind, listener.port), None)
            if listening is not None:
                listening.close()

    def _environ(self) -> Mapping[str, str]:
        return environment(os.environ, self._loaded.secrets)

    def _divide(self, loaded: Loaded) -> dict[str, Part]:
        return divide(loaded.plan, loaded.config, self._launch.state_dir, self._launch.port_offset)

    # --- reload

    async def reload_as_signalled(self) -> None:
        """Reload; whoever sent the signal reads the log."""
        try:
            await self.reload()
        except EdgeError as error:
            self._log.error("reload_refused", why=error.problem.detail)

    async def reload(self) -> dict[str, object]:
        """Apply what is different in the configuration; EdgeError 422 has every fault, and then nothing changes."""
        async with self._changing:
            try:
                loaded = await asyncio.to_thread(self._launch.load)
                load_certificates(loaded.plan.listeners)
                changed = await self._apply(loaded)
            except StartupError as error:
                self.tree.reloads["refused"] += 1
                raise EdgeError(422, "reload_refused", str(error), side=Side.CALLER) from None
            self.tree.reloads["applied"] += 1
            self._log.info("reloaded", **changed)
            return changed

    async def _apply(self, loaded: Loaded) -> dict[str, object]:
        parts = {name: self._with_database(part) for name, part in self._divide(loaded).items()}
        drain_s = loaded.config.edge.drain_s
        replaced = [name for name, part in parts.items() if self._must_replace(name, part)]
        if any(self._keepers[name].retiring is not None for name in replaced):
            raise StartupError("workers of the generation before still finish their requests: try again later")
        before = dict(self._sockets)
        self._sockets = self._bind(loaded, before)
        prepared: dict[str, Life] = {}
        try:
            for name in replaced:
                prepared[name] = await self._keepers[name].prepare(parts[name])
        except StartupError:
            for life in prepared.values():
                life.kill()
            for address, listening in self._sockets.items():
                if address not in before:
                    listening.close()
            self._sockets = before
            raise
        self._loaded = loaded
        for name, life in prepared.items():
            self._later(await self._keepers[name].succeed(parts[name], life, drain_s))
        for name in parts.keys() - self._keepers.keys():
            await self._start_one(parts[name])
        gone = self._keepers.keys() - parts.keys()
        for name in gone:
            self._later(asyncio.create_task(self._end_worker(self._keepers.pop(name), drain_s)))
        for address in before.keys() - self._sockets.keys():
            before[address].close()
        return {
            "replaced": sorted(replaced),
            "started": sorted(parts.keys() - prepared.keys() - set(replaced) & set()),
            "ended": sorted(gone),
        }

    def _must_replace(self, name: str, part: Part) -> bool:
        keeper = self._keepers.get(name)
        return (
            keeper is not None and part.role is not Role.LOCAL and (keeper.part != part or keeper.state is State.FAILED)
        )

    async def _end_worker(self, keeper: Keeper, drain_s: float) -> None:
        for task in self._keeping.pop(keeper, []):
            task.cancel()
        await keeper.stop(drain_s)

    def _later(self, task: "asyncio.Task[None] | None") -> None:
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    # --- upgrade

    async def upgrade(self) -> None:
        """Become the program that is there now, under the same process id; nothing happens if it would not start."""
        async with self._changing:
            if self._launch_is_local():
                self._refuse_upgrade("with --local there is nothing that must not be interrupted: stop and start")
                return
            if any(keeper.retiring is not None for keeper in self._keepers.values()):
                self._refuse_upgrade("workers of the generation before still finish their requests: try again later")
                return
            fault = await self._judge_next()
            if fault:
                self._refuse_upgrade(fault)
                return
            self._log.info("upgrading", generation=self.tree.generation)
            variables = self._left_now().leave()
            self._writer.close()
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            os.execve(sys.executable, [*own_command(), *sys.argv[1:]], {**os.environ, **variables})  # noqa: S606 - itself

    def _launch_is_local(self) -> bool:
        return self._loaded.plan.local

    def _refuse_upgrade(self, why: str) -> None:
        self.tree.upgrades["refused"] += 1
        self._log.error("upgrade_refused", why=why)

    async def _judge_next(self) -> str:
        """Have the program that is there now judge the configuration; return what it says against it."""
        process = await asyncio.create_subprocess_exec(
            *own_command(),
            *self._launch.judged_by,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        return said.decode(errors="replace").strip() or "it does not start" if process.returncode else ""

    def _left_now(self) -> Left:
        lives = [
            LeftLife(name, keeper.life.pid, keeper.life.channel.socket.fileno())
            for name, keeper in self._keepers.items()
            if keeper.life is not None and keeper.life.exit_status is None
        ]
        sockets = [(host, port, listening.fileno()) for (host, port), listening in self._sockets.items()]
        counted = {"upgrades": dict(self.tree.upgrades), "reloads": dict(self.tree.reloads)}
        return Left(self.tree.generation, tuple(lives), tuple(sockets), self._by_hand, self._database_url, counted)

    async def _take_over(self, left: Left, parts: Mapping[str, Part]) -> None:
        """Have new workers succeed those that the program before this one has left, all of them or none."""
        lives = {
            life.name: adopt_life(life.name, life.pid, Channel(take_socket(life.descriptor), self._shelter.methods))
            for life in left.lives
        }
        self._log.info("took_over", generation=self.tree.generation, workers=sorted(lives))
        for name, part in parts.items():
            self._keep(part, lives.get(name))
        prepared: dict[str, Life] = {}
        try:
            self._database_url = await self._open_database(parts)
            for name, part in parts.items():
                prepared[name] = await self._keepers[name].prepare(self._with_database(part))
        except StartupError as error:
            for life in prepared.values():
                life.kill()
            self.tree.upgrades["failed"] += 1
            self._log.error("upgrade_failed", why=str(error), advice="the workers of the program before serve on")
            for name in parts.keys() - lives.keys():
                del self._keepers[name]
        else:
            drain_s = self._loaded.config.edge.drain_s
            for name, life in prepared.items():
                self._later(await self._keepers[name].succeed(self._with_database(parts[name]), life, drain_s))
            self.tree.upgrades["done"] += 1
        for keeper in self._keepers.values():
            self._watch(keeper)
        for name in lives.keys() - parts.keys():
            self._later(asyncio.create_task(self._keep_gone(name, lives[name])))

    async def _keep_gone(self, name: str, life: Life) -> None:
        life.channel.tell("end")
        await life.end()
        self._log.info("worker_ended", worker=name)

    # --- what workers ask

    async def _command(self, message: Message) -> object:
        command, given = message.given["command"], message.given["given"]
        if command == "reload":
            return await self.reload()
        if command == "top":
            return await self._top()
        if command not in POOL_COMMANDS:
            raise EdgeError(404, "unknown_command", f"There is no command {command}.", side=Side.CALLER)
        balance = self._keepers.get(Role.BALANCE.value)
        if balance is None:
            if command == "change":
                raise EdgeError(404, "unknown_endpoint", f"No endpoint is named {given['endpoint']}.", side=Side.CALLER)
            return []
        answer = await balance.ask(command, **given)
        if command == "change":
            self._note_by_hand(answer, **given)
        return answer

    def _note_by_hand(self, pool: Mapping[str, Any], endpoint: str, change: Mapping[str, Any]) -> None:
        """Remember what was set: it holds for the workers that come after this one."""
        address = next(one["address"] for one in pool["endpoints"] if one["name"] == endpoint)
        self._by_hand.setdefault(pool["name"], {}).setdefault(address, {}).update(change)

    async def _everything(self, _message: Message) -> Reply:
        """Return all series, and the state of all pools."""
        told = dict(await asyncio.gather(*(self._families_of(keeper) for keeper in self._keepers.values())))
        told["supervisor"] = orjson.dumps(
            families([Source(TreeCollector(self.tree, self._keepers)), Source(self._writer)])
        )
        series = b",".join(b"%b:%b" % (orjson.dumps(name), packed) for name, packed in told.items() if packed)
        try:
            pools = await self._keepers[Role.BALANCE.value].ask("pools")
        except (KeyError, EdgeError):
            pools = []
        return Reply(None, b'{"families":{%b},"pools":%b}' % (series, orjson.dumps(pools)))

    async def _families_of(self, keeper: Keeper) -> tuple[str, bytes]:
        name, life = keeper.part.name, keeper.life
        if not keeper.serves or life is None or keeper.state is not State.SERVING:
            return name, b""
        try:
            async with asyncio.timeout(ANSWER_S):
                return name, (await life.channel.call("families")).blob
        except (TimeoutError, EdgeError):
            return name, b""

    async def _top(self) -> dict[str, object]:
        async def ports_of(keeper: Keeper) -> list[dict[str, object]]:
            try:
                async with asyncio.timeout(ANSWER_S):
                    return [{**port, "worker": keeper.part.name} for port in await keeper.ask("ports")]
            except (TimeoutError, EdgeError):
                return []

        serving = [keeper for keeper in self._keepers.values() if keeper.serves]
        ports = [port for some in await asyncio.gather(*map(ports_of, serving)) for port in some]
        balance = self._keepers.get(Role.BALANCE.value)
        try:
            pools = [] if balance is None else await balance.ask("pools")
        except EdgeError:
            pools = []
        return {
            "version": version("sovren-edge"),
            "node": self._loaded.plan.node,
            "at": time.time(),
            "generation": self.tree.generation,
            "retiring": sum(keeper.retiring is not None for keeper in self._keepers.values()),
            "workers": [self._describe(keeper) for keeper in self._keepers.values()],
            "ports": sorted(ports, key=lambda port: int(str(port["port"]))),
            "pools": pools,
            "gateway": None,
        }

    def _describe(self, keeper: Keeper) -> dict[str, object]:
        life = keeper.life
        return {
            "name": keeper.part.name,
            "pid": None if life is None else life.pid,
            "state": keeper.state,
            "since": keeper.since,
            "restarts": keeper.counted.restarts,
            **({} if life is None else life.beat),
        }

    # --- end

    def reopen_log(self) -> None:
        """Have every process open the log's file anew."""

    async def stop(self) -> None:
        """Say that the program is about to stop, let requests finish, and say what was cut."""
        edge = self._loaded.config.edge
        self._log.info("stopping", drain_s=edge.drain_s, unready_s=edge.unready_s)
        for keepers in self._keeping.values():
            for task in keepers:
                task.cancel()
        self._keeping.clear()
        if edge.unready_s:
            for keeper in self._keepers.values():
                if keeper.life is not None and keeper.serves:
                    keeper.life.channel.tell("unready")
            await asyncio.sleep(edge.unready_s)
        cut = -sum(counted.cut for counted in self.tree.counted.values())
        deadline = time.monotonic() + edge.drain_s
        for roles in ENDING:
            ending = [keeper for keeper in self._keepers.values() if keeper.part.role in roles]
            for keeper in ending:
                self._close_ports(keeper.part)
            left_s = max(0.0, deadline - time.monotonic())
            await asyncio.gather(*(keeper.stop(left_s) for keeper in ending))
        cut += sum(counted.cut for counted in self.tree.counted.values())
        self._log.info("stopped", cut_requests=cut)

    def kill(self) -> None:
        """End every worker at once."""
        for keeper in self._keepers.values():
            keeper.kill()

    async def end(self) -> None:
        """Leave no process and no port behind."""
        for task in (*self._tasks, *(one for some in self._keeping.values() for one in some)):
            task.cancel()
        self.kill()
        for keeper in self._keepers.values():
            for life in (keeper.life, keeper.retiring):
                if life is not None:
                    life.channel.close()
                    await life.end()
        for listening in self._sockets.values():
            listening.close()


def _leaves(group: BaseExceptionGroup[StartupError]) -> list[StartupError]:
    leaves: list[StartupError] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves
