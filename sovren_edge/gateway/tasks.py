"""Owns what runs beside requests: jobs that must end by themselves, and those that go on until the gateway ends.

Must not know what they do.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

Job = Coroutine[Any, Any, None]


class Tasks:
    """Runs jobs; made by `open_tasks`."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._endless: list[asyncio.Task[None]] = []

    def spawn(self, job: Job) -> "asyncio.Task[None]":
        """Begin a job that is waited for at the end."""
        return self._group.create_task(job)

    def keep(self, job: Job) -> None:
        """Run a job that is cancelled at the end."""
        self._endless.append(self._group.create_task(job))

    def end(self) -> None:
        """Cancel what would go on."""
        for task in self._endless:
            task.cancel()


@asynccontextmanager
async def open_tasks() -> AsyncIterator[Tasks]:
    """Run jobs until the block ends."""
    async with asyncio.TaskGroup() as group:
        tasks = Tasks(group)
        try:
            yield tasks
        finally:
            tasks.end()
