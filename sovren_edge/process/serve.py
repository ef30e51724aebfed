"""Owns the life of the program: bind, start, say so, wait for a signal, drain, stop.

Must not know what a worker is made of.
"""

import asyncio
import gc
import resource
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket

import uvloop
from structlog.typing import FilteringBoundLogger

from sovren_edge.config.histories import histories_of
from sovren_edge.config.model import Config
from sovren_edge.config.plan import Plan
from sovren_edge.errors import EdgeError, StartupError
from sovren_edge.local.socket_dir import admin_socket
from sovren_edge.local.stack import open_stack
from sovren_edge.observe.log import LogWriter, open_log
from sovren_edge.process.admin import Admin, open_admin
from sovren_edge.process.screen import print_screen
from sovren_edge.process.sockets import Wanted, bind_all
from sovren_edge.process.worker import Worker, open_worker
from sovren_edge.store.history import History
from sovren_edge.store.migrations import check, migrate

FIRST_READY_S = 60.0
POLL_S = 0.02
POSTGRES_PORT = 5432
GC_THRESHOLD = (50_000, 20, 20)
FREE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Call:
    """One call of `serve`."""

    plan: Plan
    config: Config
    state_dir: Path
    port_offset: int
    log: FilteringBoundLogger
    writer: LogWriter


def run(plan: Plan, config: Config, *, state_dir: Path, port_offset: int) -> int:
    """Serve until a signal; return the exit status. Raises StartupError when it cannot start."""
    _raise_descriptor_limit()
    _keep_freed_memory()
    wanted = [Wanted(listener.name, listener.bind, listener.port) for listener in plan.listeners]
    wanted += [Wanted(name, "127.0.0.1", port, ours=False) for name, port in plan.engines]
    wanted.sort(key=lambda one: one.port)
    with open_log(config.log) as (log, writer), bind_all(wanted, config.edge.backlog, port_offset) as sockets:
        call = Call(plan, config, state_dir, port_offset, log, writer)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                return runner.run(_serve(call, sockets))
            except* StartupError as group:
                raise StartupError("\n".join(str(fault) for fault in _leaves(group))) from None


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as the system lets this process have: every caller and every endpoint needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _keep_freed_memory() -> None:
    """Let the C library keep some megabytes that are free instead of returning and fetching them all the time.

    glibc learns how much from the first large block that is freed (mallopt(3), M_MMAP_THRESHOLD). Otherwise the lines
    of the log, which come and go by the hundred, cost up to one page fault a request.
    """
    block = bytes(FREE_BYTES)
    del block


def _leaves(group: BaseExceptionGroup[StartupError]) -> Iterator[StartupError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _serve(call: Call, sockets: Mapping[str, socket]) -> int:
    stop, now = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        # The second signal does not wait for open requests.
        (now if stop.is_set() else stop).set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    async with AsyncExitStack() as stack:
        database_url = await stack.enter_async_context(_open_database(call))
        worker = await stack.enter_async_context(
            open_worker(call.plan, call.config, sockets, database_url, call.state_dir, log=call.log, writer=call.writer)
        )
        admin = Admin(worker.relay, worker.pools, worker.keeps, call.log)
        await stack.enter_async_context(open_admin(admin_socket(call.state_dir), admin, call.log))
        await _announce(call, worker, stop)
        await stop.wait()
        call.log.info("stopping", requests=worker.busy, drain_s=call.config.edge.drain_s)
        cut = await _drain(worker, call.config.edge.drain_s, now)
        call.log.info("stopped", cut_requests=cut)
    return 0


async def _drain(worker: Worker, drain_s: float, now: asyncio.Event) -> int:
    drained = asyncio.ensure_future(worker.drain(drain_s))
    at_once = asyncio.ensure_future(now.wait())
    await asyncio.wait({drained, at_once}, return_when=asyncio.FIRST_COMPLETED)
    at_once.cancel()
    if drained.done():
        return drained.result()
    drained.cancel()
    return worker.relay.close()


@asynccontextmanager
async def _open_database(call: Call) -> AsyncIterator[str | None]:
    """Yield the database's URL: the local stack's, or the configured one; its schema suits this program."""
    histories = histories_of(call.config)
    schema = call.config.database.schema_name
    if call.plan.local:
        postgres_port = POSTGRES_PORT + call.port_offset

        def report(event: str, fields: Mapping[str, object]) -> None:
            (call.log.warning if event == "local_process_died" else call.log.info)(event, **fields)

        async with open_stack(call.state_dir, call.plan.engines, postgres_port, report) as stack:
            applied = await migrate(stack.database_url, schema, histories)
            call.log.info("schema_migrated", schema=schema, applied=len(applied))
            yield stack.database_url
        return
    url = call.config.database.url
    if histories and url is not None:
        await _check_schema(call, url.get_secret_value(), histories)
    yield None if url is None else url.get_secret_value()


async def _check_schema(call: Call, url: str, histories: list[History]) -> None:
    try:
        faults = await check(url, call.config.database.schema_name, histories)
    except EdgeError as error:
        # A database that is away is no reason not to start: /ready tells.
        call.log.warning("schema_not_checked", why=str(error), cause=type(error.__cause__).__name__)
        return
    if faults:
        raise StartupError("\n".join(faults))


async def _announce(call: Call, worker: Worker, stop: asyncio.Event) -> None:
    """Wait for the first round of probes, then say that the program serves."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + FIRST_READY_S
    speech = [pool for pool in worker.pools.values() if pool.settings.local is not None] if call.plan.local else []
    while not stop.is_set() and loop.time() < deadline:
        if worker.probed and all(pool.ready for pool in speech):
            break
        await asyncio.sleep(POLL_S)
    # What lives as long as the program is not looked at again by every full collection.
    gc.collect()
    gc.freeze()
    # Requests make no cycles: a collection for every few hundred of their objects would find nothing.
    gc.set_threshold(*GC_THRESHOLD)
    call.log.info("serving", listeners=len(call.plan.listeners), node=call.plan.node or "local")
    if sys.stdout.isatty() and not stop.is_set():
        print_screen(call.plan, call.state_dir, worker.pools)
