"""Owns values that are read from elsewhere and kept: fresh ones are used, older ones are read again.

So a change is in force soon after it was made, and what is kept serves through an outage of where it comes from. Must
not know what is read.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from sovren_edge.gateway.coalescing import Coalescing, Spawn

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

# Who asks for a value that is no longer fresh waits so long for a newer one.
PATIENCE_S = 0.25


@dataclass(slots=True)
class _Kept(Generic[Value]):
    value: Value
    tried_s: float


class Reread(Generic[Key, Value]):
    """Values by key, read by `read`, which raises EdgeError while they cannot be had; at most `most` of them.

    A value is fresh for `fresh_s` seconds; `now_s` counts seconds and never goes back. Equal readings are one, which no
    caller who leaves takes along.
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
        self._readings: Coalescing[Key, Value] = Coalescing(spawn)
        self._now_s = now_s
        self._fresh_s = fresh_s
        self._most = most
        self._kept: OrderedDict[Key, _Kept[Value]] = OrderedDict()

    async def get(self, key: Key) -> Value:
        """Return the value of a key; raises EdgeError if it is not known and cannot be read."""
        kept = self._kept.get(key)
        if kept is None:
            return await self._readings.join(key, partial(self._fill, key))
        self._kept.move_to_end(key)
        if self._now_s() - kept.tried_s >= self._fresh_s:
            # Nobody else tries, nor waits, until this one has come to nothing for as long.
            kept.tried_s = self._now_s()
            await asyncio.wait({self._readings.start(key, partial(self._fill, key))}, timeout=PATIENCE_S)
            kept = self._kept.get(key, kept)
        return kept.value

    def items(self) -> list[tuple[Key, Value]]:
        """Return what is kept, each value with its key."""
        return [(key, kept.value) for key, kept in self._kept.items()]

    def put(self, key: Key, value: Value) -> None:
        """Keep a value that was just read, or made."""
        self._keep(key, _Kept(value, self._now_s()))

    def give(self, key: Key, value: Value) -> None:
        """Keep a value of unknown age, unless there is one: it serves while none can be read."""
        if key not in self._kept:
            self._keep(key, _Kept(value, -math.inf))

    def _keep(self, key: Key, kept: _Kept[Value]) -> None:
        self._kept[key] = kept
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    async def _fill(self, key: Key) -> Value:
        value = await self._read(key)
        self.put(key, value)
        return value
