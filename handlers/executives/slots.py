"""Owns how many answers are made at once, in all and for one subscriber.

Must not know what an answer is.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sovren_edge.handler import EdgeError, Side

# Nobody's questions, however many and slow, keep this part of the slots from the others.
_KEPT: Final = 8
_RETRY_S: Final = 5


class Slots:
    """So many slots; who waits for one gives up after `timeout_s`."""

    def __init__(self, most: int, timeout_s: float) -> None:
        self._free = asyncio.Semaphore(most)
        self._timeout_s = timeout_s
        self._each = max(1, most - most // _KEPT)
        self._taken: Counter[str] = Counter()

    @asynccontextmanager
    async def taken(self, subscriber: str) -> AsyncIterator[None]:
        """Hold a slot; raises EdgeError: 429 for a subscriber that has all of its own, 503 if none was free in time.

        Who waits for one counts as well.
        """
        if self._taken[subscriber] >= self._each:
            detail = f"{self._each} answers are being made for you: ask again when one of them is whole."
            raise EdgeError(429, "too_many_answers", detail, side=Side.CALLER, retry_after_s=_RETRY_S)
        self._taken[subscriber] += 1
        try:
            await self._acquire()
            try:
                yield
            finally:
                self._free.release()
        finally:
            self._taken[subscriber] -= 1
            if not self._taken[subscriber]:
                del self._taken[subscriber]

    async def _acquire(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._free.acquire()
        except TimeoutError:
            detail = "Too many answers are being made: none of them ended in time for this one."
            raise EdgeError(503, "answers_busy", detail, retry_after_s=_RETRY_S) from None
