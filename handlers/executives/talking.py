"""Owns the routes by which executives are talked to: a question, a briefing, and the speech of an answer.

Must not know how an answer is made or written.
"""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Annotated
from uuid import UUID, uuid4

from aiohttp import web
from pydantic import Field

from handlers.executives.answering import Means, Task, answer
from handlers.executives.briefing import Sources
from handlers.executives.events import Began, Done, Said
from handlers.executives.interaction import Desk, Interaction, Spawn
from handlers.executives.models import Answer, BriefingWanted, Question, Wanted
from handlers.executives.persona import turns
from handlers.executives.recording import Recordings
from handlers.executives.records import Exchange, Key, key_reused
from handlers.executives.replies import reply
from handlers.executives.roster import Executive, Roster
from sovren_edge.handler import EdgeError, EventStream, Header, Request, Side, StreamResponse

SubscriberId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
AudioId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{22}$")]
_Printable = Annotated[str, Field(pattern="^[ -~]{1,255}$")]
IdempotencyKey = Annotated[
    _Printable | None,
    Header("Idempotency-Key"),
    Field(description="What has it is answered once, however often it is asked, for a day."),
]

Work = Callable[[Interaction, Key | None], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Talking:
    """Talks to executives for callers; each method that takes a request is a route."""

    means: Means
    roster: Roster
    recordings: Recordings
    sources: Sources
    desk: Desk
    spawn: Spawn
    proposes: bool

    async def interact(
        self, question: Question, request: Request, idempotency_key: IdempotencyKey = None
    ) -> Answer | EventStream:
        """Ask an executive.

        The answer is text and speech. With `Accept: text/event-stream` both come as they are made, as events `session`,
        `text`, `audio` (base64 of 16-bit samples at 24 kHz), `audio_error`, `done` (the whole answer) and `error`.
        Equal questions within 30 seconds are answered once.
        """
        subscriber = (await self.means.edge.authenticate(request)).subject

        async def work(interaction: Interaction, key: Key | None) -> None:
            await self._answer(subscriber, question, key, interaction)

        about = ("interact", question.executive_id)
        interaction = self._shared(subscriber, about, question, idempotency_key, work)
        return await reply(request, interaction, question.audio)

    async def brief(
        self,
        subscriber_id: SubscriberId,
        request: Request,
        wanted: BriefingWanted = BriefingWanted(),  # noqa: B008 - immutable
        idempotency_key: IdempotencyKey = None,
    ) -> Answer | EventStream:
        """Have an executive brief a subscriber.

        It rests on the subscriber's recent activity, today's usage of external services, and what waits for a decision;
        `sources` says what of that was known. Its form is that of an answer, and its session can be gone on with.
        """
        caller = await self.means.edge.authenticate(request)
        if not caller.may_act_for(subscriber_id):
            raise EdgeError(403, "subscriber_mismatch", "This token is not this subscriber's.", side=Side.CALLER)
        authorization = request.headers["Authorization"]

        async def work(interaction: Interaction, key: Key | None) -> None:
            await self._brief(subscriber_id, wanted, authorization, key, interaction)

        about = ("briefing", wanted.executive_id)
        interaction = self._shared(subscriber_id, about, wanted, idempotency_key, work)
        return await reply(request, interaction, wanted.audio)

    async def audio(self, audio_id: AudioId, request: Request) -> StreamResponse:
        """Fetch the speech of an answer; ranges are served, and no token is asked for."""
        left = self.recordings.left(audio_id)
        if left is None:
            raise EdgeError(404, "audio_unknown", "There is no such speech, or none any more.", side=Side.CALLER)
        _check_range(request, left.size)
        headers = {
            "Content-Type": "audio/wav",
            "Cache-Control": f"private, max-age={int(left.time.total_seconds())}",
            "X-Content-Type-Options": "nosniff",
        }
        return web.FileResponse(left.path, headers=headers)

    def _shared(self, subscriber: str, about: Hashable, asked: Wanted, given: str | None, work: Work) -> Interaction:
        """Return the answer to this, which may be in the making or just made; EdgeError 422 if its key is another's."""
        # Where speech is told makes no other answer of it.
        spoken = asked.model_copy(update={"audio": "none" if asked.audio == "none" else "url"})
        fingerprint = sha256(repr(about).encode() + spoken.model_dump_json().encode()).digest()
        key = None if given is None else Key(given, fingerprint)
        known_as = (subscriber, key.value) if key is not None else (subscriber, fingerprint)
        interaction = self.desk.find(known_as)
        if interaction is None:
            interaction = Interaction(self.recordings.new(), fingerprint)
            task = interaction.begin(lambda it: work(it, key), self.spawn, self.means.edge.log)
            task.add_done_callback(partial(self._count_end, interaction))
            self.desk.put(known_as, interaction, task)
        elif interaction.fingerprint != fingerprint:
            raise key_reused()
        else:
            self.means.measures.shared()
        return interaction

    def _count_end(self, interaction: Interaction, _ended: object) -> None:
        self.means.measures.ended(interaction.end)

    async def _answer(self, subscriber: str, question: Question, key: Key | None, interaction: Interaction) -> None:
        if await self._known(subscriber, key, interaction):
            return
        walk = self.means.measures.begin()
        executive = await self.roster.find(subscriber, question.executive_id)
        session = question.session_id
        history = await self._history(session, subscriber, executive.id)
        told = turns(executive, history, question.message, question.context, proposes=self.proposes)
        task = Task(
            subscriber=subscriber, executive=executive, session=session or uuid4(), action="interaction",
            question=question.message, turns=told, spoken=question.audio != "none", proposes=self.proposes,
            walk=walk, key=key,
        )  # fmt: skip
        await answer(self.means, task, interaction)

    async def _history(self, session: UUID | None, subscriber: str, executive_id: str) -> Sequence[Exchange]:
        return () if session is None else await self.means.records.exchanges(session, subscriber, executive_id)

    async def _brief(
        self, subscriber: str, wanted: BriefingWanted, authorization: str, key: Key | None, interaction: Interaction
    ) -> None:
        if await self._known(subscriber, key, interaction):
            return
        walk = self.means.measures.begin()
        executive = await self._speaker(subscriber, wanted.executive_id)
        facts = await self.sources.facts(subscriber, authorization)
        task = Task(
            subscriber=subscriber, executive=executive, session=uuid4(), action="briefing",
            question="Brief me.", turns=turns(executive, (), facts.told()), spoken=wanted.audio != "none",
            proposes=False, walk=walk, key=key, sources=facts.sources,
        )  # fmt: skip
        await answer(self.means, task, interaction)

    async def _speaker(self, subscriber: str, executive_id: str | None) -> Executive:
        if executive_id is None:
            return await self.roster.chair(subscriber)
        return await self.roster.find(subscriber, executive_id)

    async def _known(self, subscriber: str, key: Key | None, interaction: Interaction) -> bool:
        """Tell what was answered under this key already, if anything was."""
        known = None if key is None else await self.means.records.answered(subscriber, key, self.means.edge.clock.now())
        if known is None:
            return False
        if known.audio is not None and known.audio.url is not None:
            interaction.recording = self.recordings.old(known.audio.url.rpartition("/")[2])
        interaction.tell(Began(known.executive_id, known.session_id))
        interaction.tell(Said(known.response))
        interaction.tell(Done(known))
        return True


def _check_range(request: Request, size: int) -> None:
    try:
        start = request.http_range.start or 0
    except ValueError:
        start = size
    if start >= size:
        raise EdgeError(416, "range_unknown", f"The speech has {size} bytes, and none in this range.", side=Side.CALLER)
