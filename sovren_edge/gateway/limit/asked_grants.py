"""Owns granting by a process that succeeds this one: its limiter has the log from now on, and is asked over a line.

Both ends are here: AskedGrants asks; Answering answers, and takes what is in flight for ended when the line does. A
grant that the successor does not know, or cannot be asked for, is none: nothing is dialled for it. Must not know
what became of the log, nor who the processes are.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.handing import Line, Method, Told
from sovren_edge.gateway.limit.grants import Grants, unavailable
from sovren_edge.gateway.limit.limiter import Crowded, Decision, Exceeded, Granted, NotSeeded, Quota, RequestId
from sovren_edge.gateway.limit.notes import Notes, Refused

# Nobody waits longer for an answer.
ANSWER_S = 5.0

Written = Mapping[str, Any]
_KINDS: Mapping[str, type[Exceeded | Crowded]] = {"exceeded": Exceeded, "crowded": Crowded}


def write_quota(quota: Quota) -> list[int]:
    """Return a quota as JSON knows it."""
    return [quota.limit, quota.used, quota.next_slot_at_us, quota.full_reset_at_us]


def write_decision(decision: Decision) -> Written:
    """Return a decision as JSON knows it."""
    match decision:
        case Granted():
            return {"is": "granted", "at_us": decision.at_us, "quota": write_quota(decision.quota)}
        case NotSeeded():
            return {"is": "not_seeded"}
        case _:
            kind = "exceeded" if isinstance(decision, Exceeded) else "crowded"
            return {"is": kind, "quota": write_quota(decision.quota)}


def read_decision(written: Written) -> Decision:
    """Return a decision that was written; one that is not known is none in the caller's favour."""
    kind = written["is"]
    if kind == "granted":
        return Granted(written["at_us"], Quota(*written["quota"]))
    return _KINDS[kind](Quota(*written["quota"])) if kind in _KINDS else NotSeeded()


class AskedGrants:
    """Grants of the process at the other end of a line, which answers to `name`, and whose clock is ours."""

    def __init__(self, line: Line, name: str, now_us: Callable[[], int], clock: str) -> None:
        self.clock = clock
        self._line = line
        self._name = name
        self._now_us = now_us
        self._notes = Notes()

    async def grant(self, subscriber: str, grant_id: str) -> Decision:
        """Decide whether to send; the same id again is the same grant. Raises EdgeError 503 if nobody can tell."""
        try:
            decision = read_decision(await self._ask("grant", subscriber=subscriber, grant_id=grant_id))
        except BaseException:
            # Granted or not: nobody will send it, nor end it.
            await self.refund(subscriber, grant_id)
            raise
        if isinstance(decision, Exceeded | Crowded):
            self._notes.keep(subscriber, decision, self._now_us())
        return decision

    async def confirm(self, subscriber: str, grant_id: str, granted: Granted) -> Decision:
        """Return the grant as it stands right before dialling; raises EdgeError 503 if nobody can tell."""
        told = write_decision(granted)
        return read_decision(await self._ask("confirm", subscriber=subscriber, grant_id=grant_id, granted=told))

    async def settle(self, subscriber: str, grant_id: str) -> None:
        """Note that a request has ended, whose grant stays charged; never fails."""
        self._tell("settle", subscriber, grant_id)

    async def refund(self, subscriber: str, grant_id: str) -> None:
        """Undo the grant of a request in flight that sent nothing; never fails."""
        self._tell("refund", subscriber, grant_id)

    async def look(self, subscriber: str) -> Quota:
        """Return what a subscriber has used, and use nothing; raises EdgeError 503 if nobody can tell."""
        return Quota(*await self._ask("look", subscriber=subscriber))

    def noted(self, subscriber: str) -> Refused | None:
        """Return a refusal of the last second."""
        return self._notes.find(subscriber, self._now_us())

    def now_us(self) -> int:
        """Return the present, in microseconds."""
        return self._now_us()

    async def _ask(self, method: str, **given: Any) -> Any:  # noqa: ANN401 - whatever JSON knows
        try:
            async with asyncio.timeout(ANSWER_S):
                return (await self._line.call(f"{self._name}:{method}", **given)).value
        except (TimeoutError, EdgeError):
            raise unavailable() from None

    def _tell(self, method: str, subscriber: str, grant_id: str) -> None:
        self._notes.drop(subscriber)
        self._line.tell(f"{self._name}:{method}", subscriber=subscriber, grant_id=grant_id)


class Answering:
    """Answers the process at the other end of a line."""

    def __init__(self, grants: Grants) -> None:
        self._grants = grants
        # What that process has in flight.
        self._open: set[tuple[str, RequestId]] = set()

    def methods(self, name: str) -> dict[str, Method]:
        """Return what can be asked, where `name` is what is answered to."""
        answered = (self.grant, self.confirm, self.settle, self.refund, self.look)
        return {f"{name}:{method.__name__}": method for method in answered}

    def open(self, flights: Iterable[tuple[str, RequestId]]) -> None:
        """Know requests of the other process that are in flight."""
        self._open.update(flights)

    async def grant(self, told: Told) -> Written:
        """Grant as for a request of our own."""
        subscriber, grant_id = _key(told)
        decision = await self._grants.grant(subscriber, grant_id)
        if isinstance(decision, Granted):
            self._open.add((subscriber, grant_id))
        return write_decision(decision)

    async def confirm(self, told: Told) -> Written:
        """Confirm what was granted here, or handed over."""
        subscriber, grant_id = _key(told)
        granted = read_decision(told.given["granted"])
        if (subscriber, grant_id) not in self._open or not isinstance(granted, Granted):
            return write_decision(NotSeeded())
        return write_decision(await self._grants.confirm(subscriber, grant_id, granted))

    async def settle(self, told: Told) -> None:
        """End a request whose grant stays charged."""
        await self._grants.settle(*_key(told))
        self._open.discard(_key(told))

    async def refund(self, told: Told) -> None:
        """Give a grant back."""
        await self._grants.refund(*_key(told))
        self._open.discard(_key(told))

    async def look(self, told: Told) -> list[int]:
        """Tell what a subscriber has used."""
        return write_quota(await self._grants.look(told.given["subscriber"]))

    async def end(self) -> None:
        """Take what is in flight for ended: the other process is gone, and what it sent stays charged."""
        while self._open:
            subscriber, grant_id = self._open.pop()
            await self._grants.settle(subscriber, str(grant_id))


def _key(told: Told) -> tuple[str, str]:
    return told.given["subscriber"], told.given["grant_id"]
