"""Owns what runs beside requests: jobs that must end by themselves, and those that go on until the gateway ends.

Must not know what they do.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from structlog.typing import FilteringBoundLogger

Job = Coroutine[Any, Any, None]
AGAIN_S = 5.0


async def lasting(job: Callable[[], Awaitable[None]], log: FilteringBoundLogger) -> None:
    """Run a job until it returns; a fault of it is told, and it begins again: nothing beside it is to end with it."""
    while True:
        try:
            return await job()
        except Exception:
            log.exception("job_failed", job=getattr(job, "__qualname__", repr(job)))
        await asyncio.sleep(AGAIN_S)


class Tasks:
    """Runs jobs; made by `open_tasks`."""

    def __init__(self, group: asyncio.TaskGroup, log: FilteringBoundLogger) -> None:
        self._group = group
        self._log = log
        self._endless: list[asyncio.Task[None]] = []

    def spawn(self, job: Job) -> "asyncio.Task[None]":
        """Begin a job that is waited for at the end."""
        return self._group.create_task(job)

    def keep(self, job: Callable[[], Awaitable[None]]) -> None:
        """Run a job that lasts, and is cancelled at the end."""
        self._endless.append(self._group.create_task(lasting(job, self._log)))

    def end(self) -> None:
        """Cancel what would go on."""
        for task in self._endless:
            task.cancel()


@asynccontextmanager
async def open_tasks(log: FilteringBoundLogger) -> AsyncIterator[Tasks]:
    """Run jobs until the block ends."""
    async with asyncio.TaskGroup() as group:
        tasks = Tasks(group, log)
        try:
            yield tasks
        finally:
            tasks.end()
