"""Owns whose grants count at present: this process's own, its successor's, or for a while nobody's.

While nobody grants, calls wait, and are refused only after a while. Must not know why it changes, nor who grants how.
"""

import asyncio
from contextlib import suppress

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.limit.grants import Grants, unavailable
from sovren_edge.gateway.limit.limiter import Decision, Granted, Quota
from sovren_edge.gateway.limit.notes import Refused

PATIENCE_S = 10.0


class PresentGrants:
    """Grants of whoever grants at present; nobody does before the first `turn_to`. `own` tells the time all along."""

    def __init__(self, own: Grants) -> None:
        self._own = own
        self._present: Grants | None = None
        self._turned = asyncio.Event()

    @property
    def clock(self) -> str:
        """The name of this process's clock."""
        return self._own.clock

    def turn_to(self, grants: Grants) -> None:
        """Have these grants count from now on."""
        self._present = grants
        self._turned.set()

    def hold(self) -> None:
        """Have nobody grant from this moment on."""
        self._present = None
        self._turned.clear()

    async def grant(self, subscriber: str, grant_id: str) -> Decision:
        """Decide whether to send; the same id again is the same grant. Raises EdgeError 503 if nobody can tell."""
        return await (await self._turn()).grant(subscriber, grant_id)

    async def confirm(self, subscriber: str, grant_id: str, granted: Granted) -> Decision:
        """Return the grant as it stands right before dialling; raises EdgeError 503 if nobody can tell."""
        return await (await self._turn()).confirm(subscriber, grant_id, granted)

    async def settle(self, subscriber: str, grant_id: str) -> None:
        """Note that a request has ended, whose grant stays charged; never fails."""
        with suppress(EdgeError):
            await (await self._turn()).settle(subscriber, grant_id)

    async def refund(self, subscriber: str, grant_id: str) -> None:
        """Undo the grant of a request in flight that sent nothing; never fails. While nobody grants it may be lost."""
        with suppress(EdgeError):
            await (await self._turn()).refund(subscriber, grant_id)

    async def look(self, subscriber: str) -> Quota:
        """Return what a subscriber has used, and use nothing; raises EdgeError 503 if nobody can tell."""
        return await (await self._turn()).look(subscriber)

    def noted(self, subscriber: str) -> Refused | None:
        """Return a refusal of the last second."""
        return None if self._present is None else self._present.noted(subscriber)

    def now_us(self) -> int:
        """Return the present, in microseconds."""
        return self._own.now_us()

    async def _turn(self) -> Grants:
        """Return whose turn it is; raises EdgeError 503 if it is nobody's for too long."""
        while self._present is None:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._turned.wait()
            except TimeoutError:
                raise unavailable() from None
        return self._present
