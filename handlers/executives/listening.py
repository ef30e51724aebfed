"""Owns reading a model's answer from its connection, in time.

Must not know who asked, nor what becomes of the answer.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Final

import aiohttp

from handlers.executives.completion import BrokenError, ChatEvent, Completion, Said
from handlers.executives.refusals import failed, too_slow
from handlers.executives.sse import Reader, TooLongError

# What follows a whole answer, its cost and its end, is not waited for longer than this.
_REST_S: Final = 1.0


class Listening:
    """Reads one answer; `since` is when it was asked for, by the loop's clock, the time-outs are in seconds.

    Comments keep a connection open, and no caller waiting: time goes on until the model writes.
    """

    def __init__(
        self, answer: aiohttp.ClientResponse, since: float, *, first_token_timeout_s: float, token_timeout_s: float
    ) -> None:
        self._content = answer.content
        self._since = since
        self._first_token_timeout_s = first_token_timeout_s
        self._token_timeout_s = token_timeout_s
        self._reader = Reader()
        self._completion = Completion()

    async def events(self) -> AsyncGenerator[ChatEvent, None]:
        """Yield what the model says, as it says it; raises EdgeError where it is too slow, or fails."""
        try:
            while chunk := await self._next():
                # Under load several tokens come at once, and are one thing to tell.
                if text := "".join(self._read(chunk)):
                    yield Said(text)
            for told in self._completion.finish():
                yield told
        except (BrokenError, TooLongError):
            raise failed() from None

    async def _next(self) -> bytes:
        """Return more of the stream; nothing at its end, or where the answer is whole and nothing more comes."""
        if self._completion.over:
            return b""
        timeout_s = self._timeout_s
        try:
            async with asyncio.timeout_at(self._since + timeout_s):
                return await self._content.readany()
        except TimeoutError:
            if not self._completion.whole:
                raise too_slow(timeout_s) from None
        except aiohttp.ClientError:
            if not self._completion.whole:
                raise BrokenError from None
        return b""

    def _read(self, chunk: bytes) -> Iterator[str]:
        for event in self._reader.feed(chunk):
            if event.name == "error":
                raise BrokenError
            for said in self._completion.read(event.data):
                yield said.text
            if self._completion.begun:
                self._since = asyncio.get_running_loop().time()

    @property
    def _timeout_s(self) -> float:
        if self._completion.whole:
            return _REST_S
        return self._token_timeout_s if self._completion.begun else self._first_token_timeout_s
