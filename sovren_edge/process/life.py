"""Owns one life of a worker: its process, the channel to it, and its end.

Must not know what a worker does, nor when it is started again.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import suppress
from socket import socket

from sovren_edge.process.channel import Channel, Method, channel_pair
from sovren_edge.process.own_command import own_command

# Where a worker finds its end of the channel.
CHANNEL_DESCRIPTOR = 3
REAP_POLL_S, KILLED_AFTER_S = 0.01, 1.0
# So long after the time for its requests a worker has to say that they are done.
SILENT_S = 5.0


class Life:
    """A running process, started here or by the program before this one.

    `fresh` says that it is of this very program, so that it understands what can only be read by its own kind.
    """

    def __init__(self, name: str, pid: int, channel: Channel, *, fresh: bool) -> None:
        self.name = name
        self.pid = pid
        self.channel = channel
        self.fresh = fresh
        self.born = self.heard_at = time.monotonic()
        self.beat: Mapping[str, object] = {}
        self.exit_status: int | None = None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it at once."""
        if self.exit_status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def drain(self, drain_s: float, *, leave_backlog: bool = False, ends: Sequence[socket] = ()) -> Awaitable[int]:
        """Have it finish its requests, from now on; await how many were cut. TimeoutError if it says nothing.

        `ends` are of a channel to the one that succeeds it.
        """
        descriptors = [os.dup(end.fileno()) for end in ends]

        async def drained() -> int:
            try:
                async with asyncio.timeout(drain_s + SILENT_S):
                    reply = await self.channel.call(
                        "drain", b"", descriptors, drain_s=drain_s, leave_backlog=leave_backlog
                    )
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            return int(reply.value["cut"])

        return asyncio.ensure_future(drained())

    async def end(self) -> int:
        """Return its exit status once it is dead; one that lets go of its channel is dead soon, or killed."""
        await self.channel.closed.wait()
        patience = asyncio.get_running_loop().time() + KILLED_AFTER_S
        while self.exit_status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)  # noqa: ASYNC222 - it returns at once
            if pid:
                self.exit_status = os.waitstatus_to_exitcode(status)
                break
            if asyncio.get_running_loop().time() > patience:
                self.kill()
            await asyncio.sleep(REAP_POLL_S)
        return self.exit_status


def begin_life(name: str, methods: Mapping[str, Method], environ: Mapping[str, str]) -> Life:
    """Start a worker's process; it waits to be told what to do."""
    ours, theirs = channel_pair()
    command = [*own_command(), "worker"]
    with theirs:
        # Its own group: a terminal's Ctrl-C is for the supervisor, which ends its workers in order.
        pid = os.posix_spawn(
            command[0],
            command,
            dict(environ),
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), CHANNEL_DESCRIPTOR)],
            setpgroup=0,
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2),
        )
    return Life(name, pid, Channel(ours, methods), fresh=True)


def adopt_life(name: str, pid: int, channel: Channel) -> Life:
    """Take over a worker that the program before this one started."""
    return Life(name, pid, channel, fresh=False)


def environment(environ: Mapping[str, str], secrets: Iterable[str]) -> dict[str, str]:
    """Return what a worker may see of the environment: no secret, and nothing that is for the supervisor."""
    hidden = {*secrets, "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}
    return {
        name: value for name, value in environ.items() if name not in hidden and not name.startswith("SOVREN_EDGE_")
    }
