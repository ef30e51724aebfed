"""Owns asking a chat model: any server of OpenAI's `/chat/completions`, over the shared client.

Each question has a connection of its own. One that was kept may have ended unseen, so that the question must be sent
twice, and on one whose packets vanish a caller would wait for a token that never comes; a new one tells both while it
connects. Must not know who asks, nor what becomes of the answer.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from pydantic import SecretStr
from structlog.typing import FilteringBoundLogger

from handlers.executives.circuit import Circuit
from handlers.executives.completion import ChatEvent, Turn, first_model, limit_name, request_body
from handlers.executives.listening import Listening
from handlers.executives.refusals import failed, refusal, says_unfit, too_slow, unavailable
from sovren_edge.handler import EdgeError

_OK: Final = 200
# Servers that have no list of models, show it to nobody, or are busy, answer so, and answer questions all the same.
_ALIVE: Final = frozenset({_OK, 403, 404, 405, 429})
_LONGEST_LIST: Final = 1 << 20
_PROBE_TIMEOUT_S: Final = 1.8
# While all is well, the model is probed so many times more rarely.
_CALM: Final = 5
# A question that has heard nothing for so long has the model probed: one that is stuck is soon known.
_DOUBT_S: Final = 0.2
# Three probes that fail are to be three moments, and not one in which a proxy reads its configuration anew.
_APART_S: Final = 1.0


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
    def limit(self) -> dict[str, int]:
        """The longest answer in tokens, by the name that the server knows."""
        return {limit_name(urlsplit(self.url).hostname or ""): self.max_tokens}

    @property
    def headers(self) -> dict[str, str]:
        """What makes us known there; and tokens come as they are written, not packed by the hundred."""
        known = {} if self.key is None else {"Authorization": f"Bearer {self.key.get_secret_value()}"}
        return {"Content-Type": "application/json", "Accept-Encoding": "identity", "Connection": "close"} | known


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
        # The questions that have heard nothing yet, and whether one of them has had to wait.
        self._unheard: set[asyncio.Timeout] = set()
        self._doubted = asyncio.Event()

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
        reached or has too much to do, 504 where it is too slow, 502 where it fails, refuses, or says what nobody
        understands.
        """
        if not self._circuit.closed:
            raise unavailable()
        since = asyncio.get_running_loop().time()
        with self._judged():
            answer = await self._send(turns, tools, since)
        try:
            self._check(answer)
            async with aclosing(self._events(answer, since)) as events:
                yield events
        finally:
            answer.close()

    async def watch(self) -> None:
        """Probe the model until cancelled, and have it asked, or not, by what comes of it."""
        loop, interval_s = asyncio.get_running_loop(), self._settings.probe_interval_s
        while True:
            begun_at = loop.time()
            fault = await self._probe()
            self._seen = self._seen or not fault
            if not fault and self._circuit.probed():
                self._log.info("chat_became_ready")
            if fault and self._circuit.missed():
                self._log.warning("chat_became_unready", why=fault)
            if not self._circuit.closed:
                self._give_up_unheard()
            if not fault or not self._circuit.closed:
                self._doubted.clear()
            next_at = loop.time() + interval_s * (1 if fault else _CALM)
            await asyncio.sleep(begun_at + min(_APART_S, interval_s) - loop.time())
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_at):
                    await self._doubted.wait()

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """Have the circuit know what becomes of a question."""
        try:
            yield
        except EdgeError as error:
            if says_unfit(error) and self._circuit.failed():
                self._log.warning("chat_became_unready", why=error.problem.reason)
                self._doubted.set()
            raise

    async def _send(
        self, turns: Sequence[Turn], tools: Sequence[Mapping[str, object]], since: float
    ) -> aiohttp.ClientResponse:
        """Return the head of an answer, whatever its status."""
        settings = self._settings
        if not self._model and await self._probe():
            raise unavailable()
        body = request_body(self._model, turns, tools, settings.limit)
        try:
            async with self._unheard_until(since + settings.first_token_timeout_s):
                return await self._http.post(
                    f"{settings.url}/chat/completions", data=body, headers=settings.headers,
                    timeout=aiohttp.ClientTimeout(connect=settings.connect_timeout_s), allow_redirects=False,
                )  # fmt: skip
        except aiohttp.ClientConnectionError:
            raise unavailable() from None
        except aiohttp.ClientError:
            raise failed() from None
        except TimeoutError:
            raise (too_slow(settings.first_token_timeout_s) if self._circuit.closed else unavailable()) from None

    @asynccontextmanager
    async def _unheard_until(self, deadline: float) -> AsyncIterator[None]:
        """Wait for an answer's head until then, or until the model is known to be away; raises TimeoutError."""
        doubting = asyncio.get_running_loop().call_later(_DOUBT_S, self._doubted.set)
        async with asyncio.timeout_at(deadline) as limit:
            self._unheard.add(limit)
            try:
                yield
            finally:
                self._unheard.discard(limit)
                doubting.cancel()

    def _give_up_unheard(self) -> None:
        """Tell who waits that the model is away; those whose own time is just over know already."""
        now = asyncio.get_running_loop().time()
        for limit in self._unheard:
            if not limit.expired():
                limit.reschedule(now)

    def _check(self, answer: aiohttp.ClientResponse) -> None:
        error = refusal(answer.status, answer.headers.get("Retry-After", ""))
        if error is None:
            return
        if error.problem.reason != "chat_busy":
            self._log.warning("chat_refused", status=answer.status)
        raise error

    async def _events(self, answer: aiohttp.ClientResponse, since: float) -> AsyncGenerator[ChatEvent, None]:
        settings = self._settings
        listening = Listening(
            answer, since,
            first_token_timeout_s=settings.first_token_timeout_s, token_timeout_s=settings.token_timeout_s,
        )  # fmt: skip
        with self._judged():
            async with aclosing(listening.events()) as events:
                async for event in events:
                    self._circuit.answered()
                    yield event

    async def _probe(self) -> str:
        """Ask whether the model is there, and what it is called; return what is wrong, nothing where all is well."""
        settings = self._settings
        # Not aiohttp's own time for all of it, which may take a cancellation that comes with it for its own.
        timeout = aiohttp.ClientTimeout(total=None, connect=settings.connect_timeout_s)
        get = self._http.get(f"{settings.url}/models", headers=settings.headers, timeout=timeout, allow_redirects=False)
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S), get as answer:
                body = await _beginning(answer.content)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return type(error).__name__
        if answer.status == _OK and not settings.model:
            self._model = first_model(body) or self._model
        return "" if answer.status in _ALIVE else f"status {answer.status}"


async def _beginning(content: aiohttp.StreamReader) -> bytes:
    """Return a body, or as much of it as a list of models can need."""
    body = bytearray()
    while chunk := await content.read(_LONGEST_LIST - len(body)):
        body += chunk
    return bytes(body)
