"""Owns the life of the program: it binds every port, has workers serve them, and does what signals ask for.

It serves no traffic itself. Must not know what a worker is made of, nor how workers are kept.
"""

import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from socket import socket

from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError, StartupError
from sovren_edge.limits import fewest_descriptors
from sovren_edge.observe.lag import open_loop_watch
from sovren_edge.observe.log import LogWriter, open_log
from sovren_edge.observe.registry import Source
from sovren_edge.process.certificates import load_certificates
from sovren_edge.process.generation import Left, find_left
from sovren_edge.process.own_command import next_command
from sovren_edge.process.parts import Role
from sovren_edge.process.ports import Ports
from sovren_edge.process.screen import print_screen
from sovren_edge.process.sockets import Address, Wanted
from sovren_edge.process.systemd import Notifier, passed_descriptors, passed_sockets, watchdog_s
from sovren_edge.process.tree import STILL_RETIRING, Loaded, Means, WorkerTree
from sovren_edge.process.tree_metrics import Counts

STOPPING = frozenset({signal.SIGINT, signal.SIGTERM})
OBEYED = (*STOPPING, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True, slots=True)
class Launch:
    """One call of `serve`; `load` raises every fault at once, as a command with the arguments `judged_by` does."""

    load: Callable[[], Loaded]
    judged_by: Sequence[str]
    state_dir: Path
    port_offset: int


def run(launch: Launch) -> int:
    """Serve until a signal; return the exit status. Raises StartupError when it cannot start."""
    loaded = launch.load()
    load_certificates(loaded.plan.listeners)
    _raise_descriptor_limit()
    _check_descriptors(loaded)
    with open_log(loaded.config.log) as (log, writer):
        asyncio.run(_serve(launch, loaded, log, writer))
    return 0


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as the system lets this process have: every caller and every endpoint needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _check_descriptors(loaded: Loaded) -> None:
    """Raise StartupError if the system lets a process have fewer than what is configured takes."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    plan = loaded.plan
    needed = fewest_descriptors(len(plan.listeners), sum(len(pool.endpoints) for pool in plan.pools.values()))
    if allowed < needed:
        raise StartupError(
            f"the system lets a process have {allowed} descriptors, and {len(plan.listeners)} listeners with their"
            f" endpoints take {needed} or more: raise LimitNOFILE= of the unit, or ulimit -Hn"
        )


async def _serve(launch: Launch, loaded: Loaded, log: FilteringBoundLogger, writer: LogWriter) -> None:
    left = find_left(os.environ)
    asked = Asked()
    for number in OBEYED:
        asyncio.get_running_loop().add_signal_handler(number, asked.take, number)
    # The program before this one has held them back.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OBEYED)
    ports = _ports(launch, loaded, left, log)
    counts = Counts() if left is None else Counts.after(left.generation, left.counted)
    by_hand = {} if left is None else dict(left.by_hand)
    means = Means(launch.load, ports, counts, by_hand, launch.state_dir, launch.port_offset, log, writer)
    tree = WorkerTree(loaded, means)
    supervisor = Supervisor(launch, tree, log, writer)
    try:
        async with open_loop_watch(log) as watch:
            tree.sources.append(Source(watch))
            await supervisor.live(left, asked)
    finally:
        await tree.close()
        ports.close([address for address, _ in ports.all()])


def _ports(launch: Launch, loaded: Loaded, left: Left | None, log: FilteringBoundLogger) -> Ports:
    """Bind every port that neither the program before this one has bound, nor systemd."""

    def passed(wanted: Collection[Wanted]) -> Mapping[Address, socket]:
        found = passed_sockets(os.environ, os.getpid(), wanted)
        for warning in found.warnings:
            log.warning("socket_not_used", why=warning)
        return found.sockets

    kept = {} if left is None else {(host, port): socket(fileno=found) for host, port, found in left.sockets}
    ports = Ports(loaded.config.edge.backlog, launch.port_offset, kept, passed)
    if left is None:
        ports.bind(loaded.plan, engines=True)
    return ports


class Asked:
    """What signals have asked for: to stop, a second time not to wait for open requests, and `others` in order."""

    def __init__(self) -> None:
        self.to_stop, self.at_once = asyncio.Event(), asyncio.Event()
        self.others: asyncio.Queue[signal.Signals] = asyncio.Queue()

    def take(self, number: signal.Signals) -> None:
        """Take a signal."""
        if number not in STOPPING:
            self.others.put_nowait(number)
        elif self.to_stop.is_set():
            self.at_once.set()
        else:
            self.to_stop.set()


class Supervisor:
    """Has a tree of workers, and does what signals ask for."""

    def __init__(self, launch: Launch, tree: WorkerTree, log: FilteringBoundLogger, writer: LogWriter) -> None:
        self._launch = launch
        self._tree = tree
        self._log = log
        self._writer = writer
        self._systemd = Notifier(os.environ)

    async def live(self, left: Left | None, asked: Asked) -> None:
        """Start, or take over, and do what signals ask for until one has stopped the program."""
        living = asyncio.ensure_future(self._live(left, asked.others))
        stopped = asyncio.ensure_future(asked.to_stop.wait())
        watched = asyncio.ensure_future(self._feed_watchdog())
        try:
            # Whatever takes its time can be stopped.
            await asyncio.wait({living, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if living.done():
                living.result()
            living.cancel()
            await asyncio.wait({living})
            await self._stop(asked.at_once)
        finally:
            for task in (living, stopped, watched):
                task.cancel()

    async def _live(self, left: Left | None, asked: "asyncio.Queue[signal.Signals]") -> None:
        await self._start(left)
        while True:
            await self._obey(await asked.get())

    async def _feed_watchdog(self) -> None:
        """Tell systemd that the program lives, as long as every worker's loop does or is about to be begun anew."""
        within_s = watchdog_s(os.environ, os.getpid())
        while within_s is not None:
            if self._tree.awake:
                self._systemd.alive()
            await asyncio.sleep(within_s / 4)

    async def _start(self, left: Left | None) -> None:
        await (self._tree.start() if left is None else self._tree.take_over(left))
        balance = self._tree.keepers.get(Role.BALANCE.value)
        pools = []
        if balance is not None:
            try:
                await balance.ask("probed")
                pools = await balance.ask("pools")
            except EdgeError as error:
                self._log.warning("pools_not_probed", why=str(error))
        plan = self._tree.loaded.plan
        self._log.info("serving", listeners=len(plan.listeners), node=plan.node or "local")
        self._tell_ready()
        if sys.stdout.isatty() and left is None:
            print_screen(plan, self._launch.state_dir, pools)

    def _tell_ready(self) -> None:
        plan = self._tree.loaded.plan
        self._systemd.ready(f"serves {len(plan.listeners)} ports, generation {self._tree.counts.generation}")

    async def _obey(self, number: signal.Signals) -> None:
        match number:
            case signal.SIGHUP:
                self._systemd.reloading(time.monotonic())
                # Its faults are in the log.
                with suppress(StartupError):
                    await self._tree.reload()
                self._tell_ready()
            case signal.SIGUSR2:
                await self._upgrade()
            case _:
                self._writer.reopen()
                self._tree.reopen_logs()

    async def _upgrade(self) -> None:
        """Become the program that is there now, under the same process id; nothing happens if it would not start."""
        refusal = await self._upgrade_refused()
        if refusal:
            self._tree.counts.upgrades["refused"] += 1
            self._log.error("upgrade_refused", why=refusal)
            return
        self._log.info("upgrading", generation=self._tree.counts.generation)
        variables = self._tree.leave().leave()
        for descriptor in passed_descriptors(os.environ, os.getpid()):
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - the library's signature
        self._writer.close()
        signal.pthread_sigmask(signal.SIG_BLOCK, OBEYED)
        command = [*next_command(), *sys.argv[1:]]
        os.execve(command[0], command, {**os.environ, **variables})  # noqa: S606 - what the operator has put there

    async def _upgrade_refused(self) -> str:
        if self._tree.retiring:
            return STILL_RETIRING
        judge = await asyncio.create_subprocess_exec(
            *next_command(), *self._launch.judged_by, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        _, said = await judge.communicate()
        return (said.decode(errors="replace").strip() or "it does not start") if judge.returncode else ""

    async def _stop(self, at_once: asyncio.Event) -> None:
        edge = self._tree.loaded.config.edge
        self._log.info("stopping", drain_s=edge.drain_s, unready_s=edge.unready_s)
        self._systemd.stopping("finishes its requests")
        impatient = asyncio.ensure_future(self._kill_when(at_once))
        cut = await self._tree.stop()
        impatient.cancel()
        self._log.info("stopped", cut_requests=cut)

    async def _kill_when(self, at_once: asyncio.Event) -> None:
        await at_once.wait()
        self._tree.kill()
