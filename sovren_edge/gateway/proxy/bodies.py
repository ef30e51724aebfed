"""Owns taking a caller's body: whole, before anything is decided, and within what memory all of them may have.

So a slow caller holds neither a grant nor a connection to upstream. Must not know what the body is for.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from sovren_edge.errors import EdgeError, Side
from sovren_edge.gateway.limit.limiter import MOST_INFLIGHT
from sovren_edge.gateway.proxy.refusals import body_too_large, busy, crowded
from sovren_edge.relay.budget import Budget

MOST_BYTES = 10 * 1024 * 1024
ALL_BYTES = 256 * 1024 * 1024
WHOLE_S = 30.0


class Bodies:
    """Takes bodies; each has its room until the block ends in which it was taken."""

    def __init__(self) -> None:
        self._room = Budget(ALL_BYTES)
        # Those that are being taken, by subscriber.
        self._taking: Counter[str] = Counter()

    @asynccontextmanager
    async def take(self, subscriber: str, request: web.Request) -> AsyncIterator[bytes]:
        """Yield a request's body; raises EdgeError: 400, 408, 413, 429 for too many at once, or 503 without room."""
        if not request.body_exists:
            yield b""
            return
        size = MOST_BYTES if request.content_length is None else request.content_length
        if size > MOST_BYTES:
            raise body_too_large(MOST_BYTES)
        if self._taking[subscriber] >= MOST_INFLIGHT:
            raise crowded()
        if not self._room.take(size):
            raise busy()
        self._taking[subscriber] += 1
        try:
            yield await _read(request)
        finally:
            self._room.give(size)
            self._taking[subscriber] -= 1
            if not self._taking[subscriber]:
                del self._taking[subscriber]


async def _read(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(WHOLE_S):
            return await request.read()
    except TimeoutError:
        detail = f"The body was not there within {WHOLE_S:.0f} seconds."
        raise EdgeError(408, "body_timeout", detail, side=Side.CALLER) from None
    except web.HTTPRequestEntityTooLarge:
        raise body_too_large(MOST_BYTES) from None
    except (web.RequestPayloadError, ConnectionError):
        detail = "The body is not framed as its head announces."
        raise EdgeError(400, "body_malformed", detail, side=Side.CALLER) from None
