"""Owns values that are read from elsewhere and kept for a while: fresh ones are used, older ones are read again behind.

Whoever asks waits only where nothing is known yet. So what is kept serves through an outage, and a change is in force
soon after it was made. Must not know what is read.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sovren_edge.errors import EdgeError

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


@dataclass(slots=True)
class _Kept(Generic[Value]):
    value: Value
    read_s: float


class Reread(Generic[Key, Value]):
    """Values by key, read by `read`, which raises EdgeError while they cannot be had; at most `most` of them.

    A value is fresh for `fresh_s` seconds; `now_s` counts seconds and never goes back.
    """

    def __init__(
        self,
        read: Callable[[Key], Awaitable[Value]],
        spawn: Spawn,
        now_s: Callable[[], float],
        *,
        fresh_s: float,
        most: int,
    ) -> None:
        self._read = read
        self._spawn = spawn
        self._now_s = now_s
        self._fresh_s = fresh_s
        self._most = most
        self._kept: OrderedDict[Key, _Kept[Value]] = OrderedDict()
        self._reading: dict[Key, asyncio.Future[Value]] = {}

    async def get(self, key: Key) -> Value:
        """Return the value of a key; raises EdgeError if it is not known and cannot be read."""
        kept = self._kept.get(key)
        if kept is None:
            # All who ask for one key meanwhile share one reading, which no caller who leaves takes along.
            return await asyncio.shield(self._begin(key))
        self._kept.move_to_end(key)
        if self._now_s() - kept.read_s >= self._fresh_s:
            self._begin(key)
        return kept.value

    def put(self, key: Key, value: Value) -> None:
        """Keep a value that was just read, or made."""
        self._kept[key] = _Kept(value, self._now_s())
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def forget(self, key: Key) -> None:
        """Read this key's value anew when it is asked for next."""
        self._kept.pop(key, None)

    def _begin(self, key: Key) -> "asyncio.Future[Value]":
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = asyncio.get_running_loop().create_future()
            self._spawn(self._fill(key, reading))
        return reading

    async def _fill(self, key: Key, reading: "asyncio.Future[Value]") -> None:
        try:
            value = await self._read(key)
        except EdgeError as error:
            reading.set_exception(error)
            # Nobody may be waiting.
            reading.exception()
        except asyncio.CancelledError:
            reading.cancel()
            raise
        else:
            self.put(key, value)
            reading.set_result(value)
        finally:
            del self._reading[key]
