"""Owns the life of one child process: its log file, its leash, its end.

Must not know what the child does.
"""

import asyncio
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_KILLED_AFTER_S = 5.0


@asynccontextmanager
async def open_child(
    command: Sequence[str | Path], log_path: Path, env: Mapping[str, str], end_signal: signal.Signals = signal.SIGTERM
) -> AsyncIterator[Process]:
    """Run a command until the block ends: then it gets `end_signal`, after 5 s SIGKILL, and is reaped.

    Its output is appended to the log. Its standard input is a pipe that ends when this process does, in whatever way.
    """
    log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        # A session of its own: a terminal's Ctrl-C is for the parent, which ends its children in order.
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=log, stderr=log, env=env, start_new_session=True
        )
    try:
        yield process
    finally:
        await _end(process, end_signal)


async def _end(process: Process, end_signal: signal.Signals) -> None:
    try:
        with suppress(ProcessLookupError, TimeoutError):
            async with asyncio.timeout(_KILLED_AFTER_S):
                process.send_signal(end_signal)
                await process.wait()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
