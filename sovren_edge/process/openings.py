"""Owns the open doors of one worker: each can be opened and closed while the others go on.

Must not know what is behind a door.
"""

import asyncio
import socket
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field

from sovren_edge.config.resolved import PlannedListener
from sovren_edge.errors import StartupError
from sovren_edge.process.doors import Opened, Shared, open_door
from sovren_edge.process.draining import drained
from sovren_edge.relay.downstream import Downstream


@dataclass(frozen=True, slots=True, eq=False)
class OpenDoor:
    """A door, and its end."""

    listener: PlannedListener
    opened: "asyncio.Future[Opened]"
    closing: asyncio.Event = field(default_factory=asyncio.Event)


class Openings:
    """Opens and closes doors, which live in `group`."""

    def __init__(self, shared: Shared, group: asyncio.TaskGroup) -> None:
        self._shared = shared
        self._group = group
        # Those that callers come in by, by the listener's name; and all that are not closed yet.
        self._doors: dict[str, OpenDoor] = {}
        self._tasks: dict[OpenDoor, asyncio.Task[None]] = {}

    @property
    def open_doors(self) -> list[tuple[PlannedListener, Opened]]:
        """Those that callers come in by."""
        return [(door.listener, door.opened.result()) for door in self._doors.values()]

    async def open(self, listener: PlannedListener, listening: socket.socket) -> OpenDoor | None:
        """Return when a door is open, and give the one whose place it takes, which is to be closed.

        Raises StartupError if it cannot be opened.
        """
        door = OpenDoor(listener, asyncio.get_running_loop().create_future())
        task = self._tasks[door] = self._group.create_task(self._hold(door, listening))
        await asyncio.wait((door.opened, task), return_when=asyncio.FIRST_COMPLETED)
        if door.opened.done():
            door.opened.result()
        before = self._doors.get(listener.name)
        self._doors[listener.name] = door
        return before

    def named(self, name: str) -> OpenDoor:
        """Return a door."""
        return self._doors[name]

    def close_in_peace(self, doors: Iterable[OpenDoor], drain_s: float) -> None:
        """Close doors, each once what came through it is done."""
        for door in doors:
            self._group.create_task(self._close(door, drain_s))

    async def _close(self, door: OpenDoor, drain_s: float) -> None:
        if self._doors.get(door.listener.name) is door:
            del self._doors[door.listener.name]
        opened = door.opened.result()
        opened.acceptor.close()
        opened.inside.closing = True
        mine = [one for one in self._shared.relay.downstreams if one.door is opened.door]
        await drained(
            lambda: sum(one.busy for one in mine) + opened.inside.count,
            lambda: sum(one.transport is not None for one in mine),
            lambda: _close_idle(mine),
            drain_s,
        )
        for one in mine:
            one.abort()
        await self._end(door)

    async def close_all(self) -> None:
        """Close every door at once, the last one first."""
        for door in reversed([*self._tasks]):
            await self._end(door)

    async def _end(self, door: OpenDoor) -> None:
        door.closing.set()
        task: Awaitable[None] | None = self._tasks.pop(door, None)
        if task is not None:
            await task

    async def _hold(self, door: OpenDoor, listening: socket.socket) -> None:
        try:
            async with open_door(door.listener, listening, self._shared) as opened:
                door.opened.set_result(opened)
                await door.closing.wait()
        except StartupError as error:
            if door.opened.done():
                raise
            listening.close()
            door.opened.set_exception(error)


def _close_idle(downstreams: Iterable[Downstream]) -> None:
    for downstream in downstreams:
        downstream.close_when_idle()
