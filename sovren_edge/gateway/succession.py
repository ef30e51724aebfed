"""Owns how one gateway's process takes the place of another: what the older one knows goes to the newer one.

From the moment that the older one is told to retire, it grants nothing: calls wait, until the newer one has its log and
grants for both. So there is never more than one that grants, and what is not certain is refused:

- Only a whole log is used, and it is given once. Where a page is lost, the newer one forgets the others, and learns
  what was granted from PostgreSQL and journals, as at any start. It does not begin with that before the line has ended,
  or the older one has said that it has no log to give: by then the older one grants and confirms nothing by itself.
- What the older one dialled has a row that was durable before its grant was confirmed, and so before the newer one
  began to read: it is found in PostgreSQL, or in the older one's journal, which is waited for (see adoption.py).
- When the newer one dies, the log is lost with it: the older one refuses, until it is given a line to the next one.

The other parts are what callers are served with while PostgreSQL is away. Must not know what any page says.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.handing import Answer, Connect, Known, Line, Method, Page, Told
from sovren_edge.gateway.limit.asked_grants import Answering, AskedGrants
from sovren_edge.gateway.limit.grants import Grants
from sovren_edge.gateway.limit.limiter import RequestId
from sovren_edge.gateway.limit.present_grants import PresentGrants
from sovren_edge.gateway.tasks import Tasks

# A newer process that takes no page for so long is given up.
PAGE_S = 10.0
LOG = "log"


class Log(Known, Protocol):
    """The limiter of this process alone."""

    seeded: bool

    def flights(self) -> Iterable[tuple[str, RequestId]]:
        """Yield the subscriber and the id of each request in flight."""
        ...

    def finish_seeding(self) -> None:
        """Begin to grant."""
        ...

    def forget(self) -> None:
        """Forget what was taken."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """What one process has: `own` grants, with a `log` unless they are Redis's, and other parts that are known.

    `seed` has the limiter learn what was granted before it. `name` is one in all processes that succeed each other.
    """

    name: str
    own: Grants
    log: Log | None
    parts: Mapping[str, Known]
    seed: Callable[[], None]


class Succession:
    """One process's place in it: it begins with `begin` or `succeed`, and ends with `retire`."""

    def __init__(self, estate: Estate, present: PresentGrants, tasks: Tasks, log: FilteringBoundLogger) -> None:
        self._estate = estate
        self._present = present
        self._tasks = tasks
        self._log = log
        self._lines: list[Line] = []
        # Another may have granted since.
        self._given = False

    def begin(self) -> None:
        """Grant from now on; of what was granted before, the limiter learns by itself."""
        self._estate.seed()
        self._present.turn_to(self._estate.own)

    async def succeed(self, connect: Connect) -> None:
        """Take over from the process at the other end of a line, and return once that is done, or cannot be."""
        answering = Answering(self._present)
        heir = _Heir(self._estate, answering)
        line = connect(heir.methods())
        self._lines.append(line)
        self._tasks.keep(partial(_end_with, line, answering))
        closed = asyncio.ensure_future(line.closed.wait())
        closed.add_done_callback(lambda _: heir.give_up())
        try:
            whole = await heir.complete
        finally:
            closed.cancel()
        self._log.info("gateway_succeeded", log_whole=whole)
        if whole:
            self._present.turn_to(self._estate.own)
            return
        if self._estate.log is not None:
            self._estate.log.forget()
        self.begin()

    async def retire(self, connect: Connect) -> None:
        """Hand over to the process at the other end of a line, and ask it from then on; again, if that has died."""
        if self._estate.log is not None:
            self._present.hold()
        line = connect({})
        self._lines.append(line)
        try:
            same = await self._hand_over(line)
        except (TimeoutError, EdgeError):
            self._log.warning("gateway_not_succeeded")
            line.close()
            same = True
        if self._estate.log is not None and same:
            own = self._estate.own
            self._present.turn_to(AskedGrants(line, self._estate.name, own.now_us, own.clock))

    async def _hand_over(self, line: Line) -> bool:
        """Have the other process know what this one does; return whether their grants are of one kind."""
        estate, given = self._estate, self._given
        self._given = True
        same: bool = (await self._call(line, "begin")).value["clock"] == estate.own.clock
        if not same:
            # Neither can count for the other: whoever still needs a grant here is told to come again.
            self._present.hold()
        whole = same and not given and estate.log is not None and estate.log.seeded
        parts = {LOG: estate.log, **estate.parts} if whole and estate.log is not None else estate.parts
        for name, part in parts.items():
            for page in part.pages():
                await self._call(line, "take", page.blob, part=name, page=page.given)
        await self._call(line, "complete", whole=whole)
        return same

    async def _call(self, line: Line, method: str, blob: bytes = b"", **given: Any) -> Answer:  # noqa: ANN401 - JSON
        async with asyncio.timeout(PAGE_S):
            return await line.call(f"{self._estate.name}:{method}", blob, **given)

    def close(self) -> None:
        """End all lines."""
        for line in self._lines:
            line.close()


class _Heir:
    """What is told to the newer process; `complete` says at the end whether it has a whole log."""

    def __init__(self, estate: Estate, answering: Answering) -> None:
        self._estate = estate
        self._answering = answering
        self._parts = estate.parts if estate.log is None else {LOG: estate.log, **estate.parts}
        self.complete: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def methods(self) -> dict[str, Method]:
        """Return what is called over the line."""
        name = self._estate.name
        told = {f"{name}:begin": self._begin, f"{name}:take": self._take, f"{name}:complete": self._complete}
        return told | self._answering.methods(name)

    def give_up(self) -> None:
        """Take it that no more will come."""
        if not self.complete.done():
            self.complete.set_result(False)

    def _begin(self, _told: Told) -> dict[str, str]:
        return {"clock": self._estate.own.clock}

    def _take(self, told: Told) -> None:
        # Another version may know more than this one can use.
        if (part := self._parts.get(told.given["part"])) is not None:
            part.take(Page(told.given["page"], told.blob))

    def _complete(self, told: Told) -> None:
        log, whole = self._estate.log, bool(told.given["whole"])
        if log is not None and whole:
            self._answering.open(log.flights())
            log.finish_seeding()
        self.complete.set_result(log is not None and whole)


async def _end_with(line: Line, answering: Answering) -> None:
    await line.closed.wait()
    await answering.end()
