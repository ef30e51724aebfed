"""Owns a worker's process: it is told its part, serves it, and never outlives the supervisor.

Must not know what serving takes, nor which other workers there are.
"""

import asyncio
import ctypes
import gc
import os
import pickle
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import uvloop

from sovren_edge.errors import EdgeError, StartupError, told_together
from sovren_edge.local.engines import Engine
from sovren_edge.local.stack import open_stack
from sovren_edge.observe.log import open_log
from sovren_edge.process.channel import Channel, Message, Method, take_socket
from sovren_edge.process.life import CHANNEL_DESCRIPTOR
from sovren_edge.process.parts import Part, Role
from sovren_edge.process.serving import Means, open_serving

POSTGRES_PORT = 5432
GC_THRESHOLD = (50_000, 20, 20)
FREE_BYTES = 4 << 20
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Be a worker: what is to be done comes over the descriptor that the supervisor has left."""
    _end_with_parent()
    _keep_freed_memory()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work(take_socket(CHANNEL_DESCRIPTOR)))


def _end_with_parent() -> None:
    """Have the kernel end this process with its parent, also while it cannot notice; elsewhere the channel tells."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _keep_freed_memory() -> None:
    """Let the C library keep some megabytes that are free instead of returning and fetching them all the time.

    glibc learns how much from the first large block that is freed (mallopt(3), M_MMAP_THRESHOLD). Otherwise the lines
    of the log, which come and go by the hundred, cost up to one page fault a request.
    """
    block = bytes(FREE_BYTES)
    del block


async def _work(end: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    told: asyncio.Future[Message] = loop.create_future()
    began: asyncio.Future[object] = loop.create_future()
    ended = asyncio.Event()

    def start(message: Message) -> "asyncio.Future[object]":
        told.set_result(message)
        return began

    methods: dict[str, Method] = {"start": start, "end": lambda _message: ended.set()}
    channel = Channel(end, methods)
    leash = asyncio.ensure_future(_end_with(channel))
    message = await told
    part: Part = pickle.loads(message.blob)  # noqa: S301 - from the process that started this one, over its socket
    _settle_in(part)
    sockets = dict(zip(message.given["listeners"], map(take_socket, message.descriptors), strict=True))
    try:
        async with _open_role(part, sockets, message.given, channel, methods) as answer:
            _expect_long_life()
            began.set_result(answer)
            await ended.wait()
    except* StartupError as group:
        fault = told_together(group)
        if began.done():
            raise
        began.set_exception(EdgeError(500, "cannot_start", fault))
        await ended.wait()
    finally:
        leash.cancel()
    channel.close()


async def _end_with(channel: Channel) -> None:
    await channel.closed.wait()
    # Nobody is left who could be told anything.
    os._exit(1)


def _settle_in(part: Part) -> None:
    if part.settings.cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, part.settings.cpus)
    if part.settings.nice:
        os.nice(part.settings.nice)


def _expect_long_life() -> None:
    # What lives as long as the program is not looked at again by every full collection.
    gc.collect()
    gc.freeze()
    # Requests make no cycles: a collection for every few hundred of their objects would find nothing.
    gc.set_threshold(*GC_THRESHOLD)


@asynccontextmanager
async def _open_role(
    part: Part, sockets: Mapping[str, socket.socket], given: Mapping[str, object], channel: Channel,
    methods: dict[str, Method],
) -> AsyncIterator[object]:  # fmt: skip
    """Serve a part until the block ends; yield what the supervisor is to know."""
    async with AsyncExitStack() as stack:
        log, writer = stack.enter_context(open_log(part.config.log, worker=part.name))
        methods["reopen_log"] = lambda _message: writer.reopen()

        def report(event: str, fields: Mapping[str, object]) -> None:
            (log.warning if event == "local_process_died" else log.info)(event, **fields)

        if part.role is Role.LOCAL:
            port = POSTGRES_PORT + part.port_offset
            engines = [Engine(one.name, one.port, one.kind) for one in part.plan.engines]
            url = await stack.enter_async_context(open_stack(part.state_dir, engines, port, report, os.getppid()))
            yield {"database_url": url}
            return
        means = Means(part, sockets, given, channel, log, writer)
        methods |= await stack.enter_async_context(open_serving(means))
        yield None
