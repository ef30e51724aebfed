"""Owns how a text that is still being written is spoken: piece after piece, in order, the next one ahead.

Speech comes from a balanced port of the edge, as any caller's does. Must not know who listens.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from handlers.executives.recording import SAMPLE_BYTES
from sovren_edge.handler import Edge

# One is heard, one is made: more would hold slots that others need.
AHEAD = 2
_CONNECT_S = 2.0
_PATH = "/v1/audio/speech"

Samples = Callable[[str], AsyncIterator[bytes]]
Sound = Callable[[bytes], Awaitable[None]]
Pieces = asyncio.Queue[str | None]


class SpeechError(Exception):
    """There is no speech to be had; its text says why."""


@dataclass(frozen=True, slots=True)
class Speech:
    """A service that speaks: its name, the model that it is asked for, and how long it may be silent."""

    edge: Edge
    service: str
    model: str
    timeout_s: float

    async def samples(self, text: str, voice: str, subscriber: str) -> AsyncIterator[bytes]:
        """Yield a text as whole samples (24 kHz, 16 bits, mono), as they come; raises SpeechError."""
        body = {"model": self.model, "input": text, "voice": voice, "response_format": "pcm"}
        headers = {"X-Sovren-Priority": "interactive"}
        if subscriber.isascii() and subscriber.isprintable():
            headers["X-Sovren-Caller"] = subscriber
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=self.timeout_s)
        rest = b""
        try:
            url = self.edge.url(self.service) + _PATH
            async with self.edge.http.post(
                url, json=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                if answer.status != 200:  # noqa: PLR2004 - the one that means speech
                    raise SpeechError(f"speech was refused with status {answer.status}")
                async for chunk in answer.content.iter_any():
                    whole = (len(rest) + len(chunk)) // SAMPLE_BYTES * SAMPLE_BYTES
                    both = rest + chunk
                    rest = both[whole:]
                    if whole:
                        yield both[:whole]
        except (aiohttp.ClientError, TimeoutError, LookupError) as error:
            raise SpeechError(f"speech is away ({type(error).__name__})") from None


async def speak(pieces: Pieces, samples: Samples, sound: Sound) -> None:
    """Speak pieces until None comes, in their order; raises what goes wrong with any of them, in a group."""
    async with asyncio.TaskGroup() as group:
        turns = asyncio.Semaphore(AHEAD)
        ordered: asyncio.Queue[asyncio.Queue[bytes | None] | None] = asyncio.Queue()
        group.create_task(_begin_each(pieces, samples, ordered, turns, group))
        while (spoken := await ordered.get()) is not None:
            while (chunk := await spoken.get()) is not None:
                await sound(chunk)
            turns.release()


async def _begin_each(
    pieces: Pieces,
    samples: Samples,
    ordered: asyncio.Queue[asyncio.Queue[bytes | None] | None],
    turns: asyncio.Semaphore,
    group: asyncio.TaskGroup,
) -> None:
    while (piece := await pieces.get()) is not None:
        await turns.acquire()
        spoken: asyncio.Queue[bytes | None] = asyncio.Queue()
        group.create_task(_fetch(samples(piece), spoken))
        ordered.put_nowait(spoken)
    ordered.put_nowait(None)


async def _fetch(samples: AsyncIterator[bytes], spoken: asyncio.Queue[bytes | None]) -> None:
    async for chunk in samples:
        spoken.put_nowait(chunk)
    spoken.put_nowait(None)
