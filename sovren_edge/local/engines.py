"""Owns one life of an engine, which speaks or chats: its command, its turn to start, its readiness.

Must not know speech or models, nor when an engine is started again.
"""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from contextlib import AbstractAsyncContextManager, AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sovren_edge.errors import StartupError
from sovren_edge.local.child import open_child
from sovren_edge.local.restarts import Report

Kind = Literal["speech", "chat"]

# What is run, by its kind. Each listens on loopback, and its /health says 200 once it can work.
_MODULES: dict[Kind, str] = {"speech": "sovren_edge.local.engine", "chat": "sovren_edge.local.chat_model"}
_HOST = "127.0.0.1"
_HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
# On two cores the first of five engines is ready sooner if the others wait for their turn.
_STARTING_AT_ONCE = 2
_READY_TIMEOUT_S = 60.0
_READY_POLL_S = 0.05
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# Nothing else is passed on: the environment may hold secrets that no engine needs.
_INHERITED = frozenset(
    {
        "HOME",
        "LANG",
        "LC_ALL",
        "LD_LIBRARY_PATH",
        "OPENBLAS_CORETYPE",
        "OPENBLAS_L2_SIZE",
        "PATH",
        "PYTHONPATH",
        "TMPDIR",
    }
)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in _INHERITED} | _ONE_THREAD


@dataclass(slots=True)
class Engine:
    """One engine's state: `pid` while it runs, `ready` while it takes requests."""

    name: str
    port: int
    kind: Kind = "speech"
    pid: int | None = None
    ready: bool = False


class EngineRunner:
    """Runs engines; only so many start at once."""

    def __init__(self, log_dir: Path, report: Report) -> None:
        self._log_dir = log_dir
        self._report = report
        self._turns = asyncio.Semaphore(_STARTING_AT_ONCE)

    async def run(self, engine: Engine) -> int:
        """Run an engine until it dies, and return its exit status; StartupError if it never becomes ready."""
        try:
            async with AsyncExitStack() as life:
                async with self._turns:
                    process = await life.enter_async_context(self._child(engine))
                    engine.pid = process.pid
                    self._report("local_process_started", {"name": engine.name, "pid": process.pid})
                    engine.ready = await _became_ready(process, engine.port)
                if engine.ready:
                    self._report("local_engine_became_ready", {"name": engine.name, "port": engine.port})
                return await process.wait()
        finally:
            engine.pid, engine.ready = None, False

    def _child(self, engine: Engine) -> AbstractAsyncContextManager[Process]:
        command = (sys.executable, "-P", "-m", _MODULES[engine.kind], "--port", str(engine.port))
        return open_child(command, self._log_dir / f"{engine.name}.log", _environment())


async def _became_ready(process: Process, port: int) -> bool:
    """Wait until the engine says that it is well, or until it has died."""
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while process.returncode is None:
                if await _is_well(port):
                    return True
                await asyncio.sleep(_READY_POLL_S)
    except TimeoutError:
        raise StartupError(f"it was not ready within {_READY_TIMEOUT_S:.0f} s") from None
    return False


async def _is_well(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(_HOST, port)
        with closing(writer):
            writer.write(_HEALTH)
            return (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False
