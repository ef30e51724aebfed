"""Owns that equal jobs are done once at a time: whoever comes while one runs gets its result.

Must not know what a job does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from sovren_edge.errors import EdgeError

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class Coalescing(Generic[Key, Result]):
    """Jobs by their keys; they are tasks that `spawn` makes, so that a caller that leaves ends none of them."""

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self._running: dict[Key, asyncio.Future[Result]] = {}

    async def join(self, key: Key, job: Callable[[], Awaitable[Result]]) -> Result:
        """Return what the job of this key returns, or raise what it raises; it is started if none runs."""
        return await asyncio.shield(self.start(key, job))

    def start(self, key: Key, job: Callable[[], Awaitable[Result]]) -> "asyncio.Future[Result]":
        """Start a job, if none of its key runs, and return its result to come."""
        if key not in self._running:
            self._running[key] = asyncio.get_running_loop().create_future()
            self._spawn(self._run(key, job))
        return self._running[key]

    async def _run(self, key: Key, job: Callable[[], Awaitable[Result]]) -> None:
        result = self._running[key]
        try:
            result.set_result(await job())
        except Exception as error:  # noqa: BLE001 - whoever joined it raises it
            result.set_exception(error)
            if isinstance(error, EdgeError):
                # It is no mistake of the program's, and perhaps nobody waits.
                result.exception()
        finally:
            del self._running[key]
            result.cancel()
