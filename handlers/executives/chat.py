"""Owns asking a chat model: any server of OpenAI's `/chat/completions`, over the shared client.

What such a server says in an error is its operator's business: it is neither told nor logged. Must not know who asks,
nor what becomes of the answer.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
from pydantic import SecretStr
from structlog.typing import FilteringBoundLogger

from handlers.executives.circuit import Circuit
from handlers.executives.completion import BrokenError, ChatEvent, Completion, Turn, first_model, request_body
from handlers.executives.sse import Reader, TooLongError
from sovren_edge.handler import EdgeError, Side

_RETRY_S, _LONGEST_RETRY_S = 5, 60
_OK: Final = 200
_BUSY: Final = frozenset({429, 503})
# Servers that have no list of models answer so, and answer all the same.
_ALIVE: Final = frozenset({_OK, 404, 405})
_LONGEST_LIST: Final = 1 << 20
_PROBE_TIMEOUT_S: Final = 2.0
# While all is well, the model is probed so many times more rarely.
_CALM: Final = 5
# What says that a model is not fit to be asked; one that is busy, or asked in the wrong way, is.
_FAILURES: Final = frozenset({"chat_unavailable", "chat_timeout", "chat_failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSettings:
    """Where the model is (`url` ends in `/v1`), what it is called (empty: its server's first), and its time-outs."""

    url: str
    model: str
    key: SecretStr | None
    max_tokens: int
    connect_timeout_s: float
    first_token_timeout_s: float
    token_timeout_s: float
    probe_interval_s: float

    @property
    def headers(self) -> dict[str, str]:
        """What makes us known there."""
        known = {} if self.key is None else {"Authorization": f"Bearer {self.key.get_secret_value()}"}
        return {"Content-Type": "application/json"} | known


class Chat:
    """The client of one model."""

    def __init__(
        self, http: aiohttp.ClientSession, settings: ChatSettings, circuit: Circuit, log: FilteringBoundLogger
    ) -> None:
        self._http = http
        self._settings = settings
        self._circuit = circuit
        self._log = log
        self._model = settings.model
        self._seen = False

    @property
    def ready(self) -> bool:
        """Whether it has answered a probe, and is asked."""
        return self._seen and self._circuit.closed

    @property
    def model(self) -> str:
        """What the model is called; empty before its server was asked."""
        return self._model

    @asynccontextmanager
    async def ask(
        self, turns: Sequence[Turn], tools: Sequence[Mapping[str, object]] = ()
    ) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        """Have the model answer; leaving the block early ends its work.

        Raises EdgeError, here or while its events are read: 503 while the circuit is open, where the model cannot be
        reached or has too much to do, 504 where it is too slow, 502 where it fails or says what nobody understands.
        """
        if not self._circuit.closed:
            raise _unavailable()
        try:
            async with self._answer(turns, tools) as answer:
                yield self._events(answer)
        except EdgeError as error:
            if error.problem.reason in _FAILURES and self._circuit.failed():
                self._log.warning("chat_became_unready", why=error.problem.reason)
            raise
        self._circuit.answered()

    async def watch(self) -> None:
        """Probe the model until cancelled, and have it asked, or not, by what comes of it."""
        while True:
            alive = await self._probe()
            self._seen = self._seen or alive
            if alive and self._circuit.probed():
                self._log.info("chat_became_ready")
            if not alive and self._circuit.failed():
                self._log.warning("chat_became_unready", why="probe")
            await asyncio.sleep(self._settings.probe_interval_s * (_CALM if alive else 1))

    @asynccontextmanager
    async def _answer(
        self, turns: Sequence[Turn], tools: Sequence[Mapping[str, object]]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if not self._model:
            await self._probe()
        body = request_body(self._model, turns, tools, self._settings.max_tokens)
        answer = await self._send(body)
        try:
            self._check_status(answer)
            yield answer
        finally:
            # What was not read to its end is not used again: that ends the model's work.
            answer.close()

    async def _send(self, body: bytes) -> aiohttp.ClientResponse:
        """Return the answer's head; a connection that had ended unseen is no fault of the model's, and tried anew."""
        settings, again = self._settings, True
        timeout = aiohttp.ClientTimeout(total=None, connect=settings.connect_timeout_s)
        while True:
            try:
                async with asyncio.timeout(settings.first_token_timeout_s):
                    return await self._http.post(
                        f"{settings.url}/chat/completions", data=body, headers=settings.headers, timeout=timeout
                    )
            except aiohttp.ServerDisconnectedError:
                if not again:
                    raise _failed() from None
                again = False
            except aiohttp.ConnectionTimeoutError:
                raise _unavailable() from None
            except TimeoutError:
                raise _too_slow(settings.first_token_timeout_s) from None
            except aiohttp.ClientError:
                raise _unavailable() from None

    def _check_status(self, answer: aiohttp.ClientResponse) -> None:
        if answer.status == _OK:
            return
        if answer.status in _BUSY:
            retry = answer.headers.get("Retry-After", "")
            retry_s = min(int(retry), _LONGEST_RETRY_S) if retry.isascii() and retry.isdigit() else _RETRY_S
            detail = "The chat model has too much to do at the moment."
            raise EdgeError(503, "chat_busy", detail, side=Side.UPSTREAM, retry_after_s=max(retry_s, 1))
        self._log.warning("chat_refused", status=answer.status)
        if answer.status >= 500:  # noqa: PLR2004 - from here on the fault is the server's
            raise _failed()
        raise EdgeError(502, "chat_refused", "The chat model refuses to be asked like this.", side=Side.EDGE)

    async def _events(self, answer: aiohttp.ClientResponse) -> AsyncIterator[ChatEvent]:
        reader, completion = Reader(), Completion()
        timeout_s = self._settings.first_token_timeout_s
        try:
            while chunk := await _next(answer, timeout_s):
                for event in reader.feed(chunk):
                    for said in completion.read(event.data):
                        timeout_s = self._settings.token_timeout_s
                        yield said
            for said in completion.finish():
                yield said
        except (BrokenError, TooLongError, aiohttp.ClientError):
            raise _failed() from None

    async def _probe(self) -> bool:
        """Ask whether the model is there, and what it is called."""
        timeout = aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S, connect=self._settings.connect_timeout_s)
        url = f"{self._settings.url}/models"
        try:
            async with self._http.get(url, headers=self._settings.headers, timeout=timeout) as answer:
                body = await answer.content.read(_LONGEST_LIST)
        except (aiohttp.ClientError, TimeoutError):
            return False
        if answer.status == _OK and not self._model:
            self._model = first_model(body)
        return answer.status in _ALIVE


async def _next(answer: aiohttp.ClientResponse, timeout_s: float) -> bytes:
    try:
        async with asyncio.timeout(timeout_s):
            return await answer.content.readany()
    except TimeoutError:
        raise _too_slow(timeout_s) from None


def _unavailable() -> EdgeError:
    detail = "The chat model cannot be reached at the moment."
    return EdgeError(503, "chat_unavailable", detail, side=Side.UPSTREAM, retry_after_s=_RETRY_S)


def _too_slow(timeout_s: float) -> EdgeError:
    detail = f"The chat model said nothing for {timeout_s:g} s."
    return EdgeError(504, "chat_timeout", detail, side=Side.UPSTREAM, retry_after_s=_RETRY_S)


def _failed() -> EdgeError:
    detail = "The chat model failed before its answer was whole."
    return EdgeError(502, "chat_failed", detail, side=Side.UPSTREAM, retry_after_s=_RETRY_S)
