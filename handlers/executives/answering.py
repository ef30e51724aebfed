"""Owns how one answer is made: the model writes, its text is cut into pieces, they are spoken, all of it is kept.

Must not know who follows the answer, nor how it is written to them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from handlers.executives.approvals import Approvals
from handlers.executives.chat import Chat
from handlers.executives.completion import Called, Turn, Usage
from handlers.executives.events import Began, Done, FellSilent, Said
from handlers.executives.interaction import Interaction
from handlers.executives.measures import Measures, Walk
from handlers.executives.models import Answer, Audio, Proposed
from handlers.executives.pieces import Pieces
from handlers.executives.proposal import NAME, TOOL, Proposal, read_proposal
from handlers.executives.records import Cost, Key, Records
from handlers.executives.roster import Executive
from handlers.executives.speech import Speech, SpeechError, speak
from sovren_edge.handler import Edge, EdgeError, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be answered: by whom, for whom, in which session; `action` is what its record is called."""

    subscriber: str
    executive: Executive
    session: UUID
    action: str
    question: str
    turns: Sequence[Turn]
    spoken: bool
    key: Key | None = None
    sources: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What answers are made with; the times are in seconds."""

    edge: Edge
    chat: Chat | None
    speech: Speech
    records: Records
    approvals: Approvals
    measures: Measures
    slots: asyncio.Semaphore
    proposes: bool
    queue_timeout_s: float
    answer_timeout_s: float
    audio_url: Callable[[str], str]


async def answer(means: Means, task: Task, interaction: Interaction) -> None:
    """Make an answer, and tell what happens on the way; raises EdgeError."""
    if means.chat is None:
        raise EdgeError(503, "chat_not_configured", "No chat model is configured here.", retry_after_s=60)
    walk = means.measures.begin()
    async with _slot(means), _in_time(means.answer_timeout_s):
        walk.reached("queue")
        await _Making(means, task, interaction, walk, means.chat).run()
    walk.reached("whole")


@asynccontextmanager
async def _slot(means: Means) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(means.queue_timeout_s):
            await means.slots.acquire()
    except TimeoutError:
        detail = "Too many answers are being made: none of them ended in time for this one."
        raise EdgeError(503, "answers_busy", detail, retry_after_s=5) from None
    try:
        yield
    finally:
        means.slots.release()


@asynccontextmanager
async def _in_time(timeout_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise EdgeError(
            504, "answer_timeout", f"The answer was not whole within {timeout_s:g} s.", retry_after_s=5
        ) from None


class _Making:
    """One answer that is being made."""

    def __init__(self, means: Means, task: Task, interaction: Interaction, walk: Walk, chat: Chat) -> None:
        self._means = means
        self._task = task
        self._interaction = interaction
        self._walk = walk
        self._chat = chat
        self._text: list[str] = []
        self._cutter = Pieces()
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self._due: asyncio.TimerHandle | None = None
        self._proposed = ""
        self._usage: Usage | None = None
        self._silence: str | None = None

    async def run(self) -> None:
        """Write and speak at once, then keep what came of it."""
        try:
            async with asyncio.TaskGroup() as group:
                if self._task.spoken:
                    group.create_task(self._speak())
                proposal = await self._write()
        except BaseExceptionGroup as faults:
            raise faults.exceptions[0] from None
        finally:
            if self._due is not None:
                self._due.cancel()
        await self._end(proposal)

    async def _write(self) -> Proposal | None:
        """Have the model write; return what it proposes."""
        tools = (TOOL,) if self._means.proposes else ()
        async with self._chat.ask(self._task.turns, tools) as events:
            self._interaction.tell(Began(self._task.executive.id, self._task.session))
            async for event in events:
                match event:
                    case Called(name, arguments):
                        self._proposed = self._proposed or (arguments if name == NAME else "")
                    case Usage():
                        self._usage = event
                    case _:
                        self._say(event.text)
        proposal = read_proposal(self._proposed)
        if not "".join(self._text).strip():
            if proposal is None:
                raise EdgeError(502, "chat_empty", "The model answered nothing.", side=Side.UPSTREAM, retry_after_s=1)
            self._say(f"I propose this: {proposal.action.rstrip('. ')}. It waits for your decision.")
        self._hand_over(self._cutter.finish())
        self._pieces.put_nowait(None)
        return proposal

    def _say(self, text: str) -> None:
        self._walk.reached("first_token")
        self._text.append(text)
        self._interaction.tell(Said(text))
        now = self._means.edge.clock.monotonic()
        self._hand_over(self._cutter.add(text, now))
        if self._due is None and (due_at := self._cutter.due_at) is not None:
            self._due = asyncio.get_running_loop().call_later(due_at - now, self._hand_over_due)

    def _hand_over_due(self) -> None:
        self._hand_over(self._cutter.at(self._means.edge.clock.monotonic()))

    def _hand_over(self, pieces: Sequence[str]) -> None:
        for piece in pieces:
            self._pieces.put_nowait(piece)

    async def _speak(self) -> None:
        """Speak what is handed over; where that fails, the answer goes on without."""
        samples = partial(
            self._means.speech.samples, voice=self._task.executive.voice, subscriber=self._task.subscriber
        )
        try:
            await speak(self._pieces, samples, self._sound)
            await self._interaction.recording.finish()
        except* SpeechError as faults:
            self._fall_silent(str(_first(faults)))
        except* OSError:
            self._fall_silent("speech could not be kept")

    async def _sound(self, samples: bytes) -> None:
        event = await self._interaction.recording.append(samples)
        self._walk.reached("first_audio")
        self._interaction.tell(event)

    def _fall_silent(self, reason: str) -> None:
        self._silence = reason
        self._means.edge.log.warning("answer_without_speech", reason=reason)
        self._interaction.tell(FellSilent(reason))

    async def _end(self, proposal: Proposal | None) -> None:
        """Keep the answer, and tell it."""
        approval = None if proposal is None else await self._propose(proposal)
        answer = Answer(
            executive_id=self._task.executive.id,
            response="".join(self._text).strip(),
            timestamp=self._means.edge.clock.now(),
            session_id=self._task.session,
            audio=await self._audio(),
            approval=approval,
            sources=None if self._task.sources is None else dict(self._task.sources),
        )
        await self._keep(answer)
        self._interaction.tell(Done(answer))

    async def _audio(self) -> Audio | None:
        recording = self._interaction.recording
        if not self._task.spoken:
            return None
        if self._silence is None and recording.duration_s:
            return Audio(duration=round(recording.duration_s, 3), url=self._means.audio_url(recording.id))
        await recording.discard()
        return Audio(error=self._silence or "there was nothing to say")

    async def _propose(self, proposal: Proposal) -> Proposed:
        task, now = self._task, self._means.edge.clock.now()
        approval = await self._means.approvals.propose(task.subscriber, task.executive.id, proposal, now)
        return Proposed(id=approval.id, action=approval.action, expires_at=approval.expires_at)

    async def _keep(self, answer: Answer) -> None:
        means, task, usage = self._means, self._task, self._usage
        cost = Cost(
            self._chat.model,
            None if usage is None else usage.prompt_tokens,
            None if usage is None else usage.completion_tokens,
            round(self._interaction.recording.duration_s * 1000),
        )
        await means.records.keep(task.subscriber, answer, task.action, cost, question=task.question, key=task.key)


def _first(faults: BaseExceptionGroup[SpeechError]) -> BaseException:
    fault: BaseException = faults
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return fault
