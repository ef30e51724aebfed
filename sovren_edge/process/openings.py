"""Owns the open doors of one worker: each can be opened and closed while the others go on.

Must not know what is behind a door.
"""

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from sovren_edge.config.resolved import PlannedListener
from sovren_edge.errors import StartupError
from sovren_edge.process.doors import Shared, open_door
from sovren_edge.process.draining import drained
from sovren_edge.relay.downstream import Downstream


@dataclass(frozen=True, slots=True, eq=False)
class _Door:
    listener: PlannedListener
    opened: "asyncio.Future[None]"
    closing: asyncio.Event = field(default_factory=asyncio.Event)


class Openings:
    """Opens and closes doors; `group` is where they live."""

    def __init__(self, shared: Shared, group: asyncio.TaskGroup) -> None:
        self._shared = shared
        self._group = group
        self._doors: dict[str, _Door] = {}
        self._tasks: dict[_Door, asyncio.Task[None]] = {}

    async def open(self, listener: PlannedListener, listening: socket.socket) -> None:
        """Return when a door is open; raises StartupError if it cannot be."""
        door = _Door(listener, asyncio.get_running_loop().create_future())
        task = self._tasks[door] = self._group.create_task(self._hold(door, listening))
        await asyncio.wait((door.opened, task), return_when=asyncio.FIRST_COMPLETED)
        if door.opened.done():
            door.opened.result()
        self._doors[listener.name] = door

    async def close(self, name: str, drain_s: float, *, leave_backlog: bool) -> int:
        """Close a door once what came through it is done, or is cut after `drain_s`; return how many requests were."""
        door, shared = self._doors.pop(name), self._shared
        acceptor, inside = shared.acceptors.pop(name), shared.open_requests.pop(name, None)
        shared.pages.pop(name)
        shared.sources.pop(name)
        acceptor.close(leave_backlog=leave_backlog)
        mine = [one for one in shared.relay.downstreams if one.door.name == name]
        if inside is not None:
            inside.closing = True
        cut = await drained(
            lambda: sum(one.busy for one in mine) + (0 if inside is None else inside.count),
            lambda: sum(one.transport is not None for one in mine),
            lambda: _close_idle(mine),
            drain_s,
        )
        for one in mine:
            one.abort()
        await self._end(door)
        return cut

    async def close_all(self) -> None:
        """Close every door at once, the last one first; raises what kept one from closing."""
        for door in reversed([*self._tasks]):
            await self._end(door)

    async def _end(self, door: _Door) -> None:
        door.closing.set()
        task = self._tasks.pop(door, None)
        if task is not None:
            await task

    async def _hold(self, door: _Door, listening: socket.socket) -> None:
        try:
            async with open_door(door.listener, listening, self._shared):
                door.opened.set_result(None)
                await door.closing.wait()
        except StartupError as error:
            if door.opened.done():
                raise
            listening.close()
            door.opened.set_exception(error)


def _close_idle(downstreams: Iterable[Downstream]) -> None:
    for downstream in downstreams:
        downstream.close_when_idle()
