"""The whole stack, really started."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import asyncpg
import psutil
import pytest

from sovren_edge.errors import StartupError
from sovren_edge.local.engines import Engine
from sovren_edge.local.lock import hold
from sovren_edge.local.stack import open_stack
from tests.local.conftest import PATIENCE_S
from tests.ports import free_port


class Events:
    """What the stack reported; a test can wait for it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, object]] = []
        self._changed = asyncio.Event()

    def report(self, event: str, fields: Mapping[str, object]) -> None:
        """Keep an event and the name it is about."""
        self.seen.append((event, fields["name"]))
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


async def test_what_dies_is_started_again_and_all_ends(tmp_path: Path) -> None:
    """Each death and start is reported; nothing is left."""
    events, others = Events(), set(psutil.Process().children())
    engine = Engine("engine-1", free_port())
    async with open_stack(tmp_path, [engine], 5432, events.report, os.getpid()) as database_url:
        assert not engine.ready
        await events.until(lambda: engine.ready)
        pids = {kill(engine.pid), kill(server_pid(tmp_path))}
        await events.until(lambda: events.seen.count(("local_process_died", "postgres")) == 1)
        await events.until(lambda: ("local_process_died", "engine-1") in events.seen and not engine.ready)
        await events.until(lambda: events.seen.count(("local_process_started", "postgres")) == 2)
        await events.until(lambda: engine.ready)
        assert engine.pid not in pids
        connection = await asyncpg.connect(database_url)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
    assert engine.pid is None
    assert set(psutil.Process().children()) == others
    assert events.seen.count(("local_engine_became_ready", "engine-1")) == 2


def kill(pid: int | None) -> int:
    """Kill a process without warning."""
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return pid


def server_pid(state_dir: Path) -> int:
    """Return PostgreSQL's pid."""
    return int((state_dir / "postgres/data/postmaster.pid").read_text(encoding="utf-8").split("\n")[0])


async def test_the_block_s_exception_is_not_wrapped_and_ends_all(tmp_path: Path) -> None:
    """Its caller sees what it raised, while an engine was still starting."""
    others = set(psutil.Process().children())
    with pytest.raises(KeyError, match="its own"):
        await fail_within(tmp_path)
    assert set(psutil.Process().children()) == others


async def fail_within(state_dir: Path) -> None:
    """Raise an exception within the block."""
    events = Events()
    async with open_stack(state_dir, [Engine("engine-1", free_port())], 5432, events.report, os.getpid()):
        await events.until(lambda: ("local_process_started", "engine-1") in events.seen)
        raise KeyError("its own")


async def test_a_directory_has_one_holder(tmp_path: Path) -> None:
    """The fault names the process that has it; afterwards it is free again."""
    with hold(tmp_path, os.getpid()), pytest.raises(StartupError, match=f"in use by process {os.getpid()}"):
        async with open_stack(tmp_path, [], 5432, Events().report, os.getpid()):
            pass
    with hold(tmp_path, os.getpid()):
        pass


def test_a_directory_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    """It is named."""
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match="cannot use the state directory"), hold(tmp_path / "file", os.getpid()):
        pass
