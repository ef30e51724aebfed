"""Owns the service: its settings, its life, and its routes.

Must not know how anything is done behind a route.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, HttpUrl

from handlers.executives.activity import Activities
from handlers.executives.answering import Means
from handlers.executives.approvals import Approvals
from handlers.executives.briefing import Sources
from handlers.executives.chat import Chat, ChatSettings
from handlers.executives.circuit import Circuit
from handlers.executives.interaction import Desk, Spawn
from handlers.executives.listing import Listing
from handlers.executives.measures import Measures
from handlers.executives.recording import Recordings
from handlers.executives.records import Ages, Records
from handlers.executives.roster import Roster
from handlers.executives.slots import Slots
from handlers.executives.speech import Speech
from handlers.executives.talking import Talking
from sovren_edge.handler import Database, Edge, Handler, Route, Routes, Secret, Service, route

# The service of the configuration that is asked where no chat_url is set.
_CHAT = "chat"
_PREFIX = "/executives"
_SWEEP_S = 300.0


def _bare(url: HttpUrl) -> HttpUrl:
    if url.username or url.password or url.query or url.fragment:
        raise ValueError("a URL without user, password, query and fragment; a key goes into chat_key")
    return url


class Executives(Handler):
    """The Shadow Board: executives who answer in text and speech, brief their subscriber, and ask for approvals.

    Every path is served with and without `/executives` before it.
    """

    migrations: ClassVar[str | None] = "handlers.executives.migrations"
    authenticates: ClassVar[bool] = True

    chat_url: Annotated[HttpUrl, AfterValidator(_bare)] | None = None
    chat_key: Secret | None = None
    model: str = ""
    max_tokens: int = Field(default=400, ge=1)
    proposals: bool = True
    speech: Service = "tts-master"
    speech_model: str = "tts-1"
    gateway: Service = "api-gateway"
    answers: int = Field(default=256, ge=1)
    history: int = Field(default=10, ge=1, le=100)
    session_days: int = Field(default=30, ge=1)
    records_days: int = Field(default=400, ge=1)
    audio_kept_s: int = Field(default=3600, ge=1)
    audio_bytes: int = Field(default=10_000_000_000, ge=1_000_000)
    audio_prefix: str = ""
    queue_timeout_s: float = Field(default=10.0, gt=0)
    connect_timeout_s: float = Field(default=1.5, gt=0)
    first_token_timeout_s: float = Field(default=20.0, gt=0)
    token_timeout_s: float = Field(default=15.0, gt=0)
    speech_timeout_s: float = Field(default=15.0, gt=0)
    answer_timeout_s: float = Field(default=120.0, gt=0)
    probe_interval_s: float = Field(default=2.0, gt=0)

    @asynccontextmanager
    async def open(self, edge: Edge) -> AsyncIterator[Routes]:
        """Serve the board until the block ends; answers that are in the making end with it."""
        kept = timedelta(seconds=self.audio_kept_s)
        recordings = Recordings(edge.directory(), kept, self.audio_bytes, edge.clock.now)
        chat = self._chat(edge)
        async with edge.database() as database, _spawning() as spawn:
            means = self._means(edge, database, chat)
            activities, approvals = Activities(database), Approvals(database)
            talking = Talking(
                means=means,
                roster=Roster(database),
                recordings=recordings,
                sources=Sources(edge, activities, approvals, self.gateway),
                desk=Desk(edge.clock.monotonic),
                spawn=spawn,
                proposes=self.proposals,
            )
            edge.depends("chat", lambda: chat is not None and chat.ready)
            if chat is not None:
                spawn(chat.watch())
            spawn(self._sweep(edge, means.records, recordings))
            listing = Listing(edge, talking.roster, activities, approvals)
            yield [*_routes(talking, listing, _PREFIX), *_routes(talking, listing, "")]

    def _chat(self, edge: Edge) -> Chat | None:
        """Return the client of the chat model; None where there is no model."""
        try:
            url = f"{edge.url(_CHAT)}/v1" if self.chat_url is None else str(self.chat_url).rstrip("/")
        except LookupError:
            return None
        settings = ChatSettings(
            url=url,
            model=self.model,
            key=self.chat_key,
            max_tokens=self.max_tokens,
            connect_timeout_s=self.connect_timeout_s,
            first_token_timeout_s=self.first_token_timeout_s,
            token_timeout_s=self.token_timeout_s,
            probe_interval_s=self.probe_interval_s,
        )
        return Chat(edge.http, settings, Circuit(), edge.log)

    def _means(self, edge: Edge, database: Database, chat: Chat | None) -> Means:
        return Means(
            edge=edge,
            chat=chat,
            speech=Speech(edge, self.speech, self.speech_model, self.speech_timeout_s),
            records=Records(database, self.history),
            measures=Measures(edge.metrics, edge.clock.monotonic),
            slots=Slots(self.answers, self.queue_timeout_s),
            answer_timeout_s=self.answer_timeout_s,
            audio_url=lambda audio_id: f"{self.audio_prefix}{_PREFIX}/audio/{audio_id}",
        )

    async def _sweep(self, edge: Edge, records: Records, recordings: Recordings) -> None:
        """Remove what is too old, again and again, until cancelled."""
        ages = Ages(unused=timedelta(days=self.session_days), kept=timedelta(days=self.records_days))
        while True:
            try:
                await asyncio.to_thread(recordings.sweep)
                await records.forget(edge.clock.now(), ages)
            except Exception as error:  # noqa: BLE001 - whatever it is, answers are not to end with it
                edge.log.warning("sweep_failed", error=type(error).__name__)
            await asyncio.sleep(_SWEEP_S)


def _routes(talking: Talking, listing: Listing, prefix: str) -> list[Route]:
    return [
        route.get(f"{prefix}/list", listing.executives),
        route.get(f"{prefix}/activity", listing.activity),
        route.post(f"{prefix}/interact", talking.interact),
        route.get(f"{prefix}/audio/{{audio_id}}", talking.audio),
        route.post(f"{prefix}/briefing/{{subscriber_id}}", talking.brief),
        route.get(f"{prefix}/pending-approvals", listing.pending_approvals),
        route.post(f"{prefix}/pending-approvals/{{approval_id}}/decision", listing.decide),
    ]


@asynccontextmanager
async def _spawning() -> AsyncIterator[Spawn]:
    """Yield what makes tasks that end with the block."""
    running: set[asyncio.Task[None]] = set()
    async with asyncio.TaskGroup() as group:

        def spawn(job: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            task = group.create_task(job)
            running.add(task)
            task.add_done_callback(running.discard)
            return task

        try:
            yield spawn
        finally:
            for task in list(running):
                task.cancel()
