"""Owns how one answer is made: the model writes, its text is cut into pieces, they are spoken, all of it is kept.

Must not know who follows the answer, nor how it is written to them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from handlers.executives.approvals import make_approval
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
from handlers.executives.slots import Slots
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
    proposes: bool
    walk: Walk
    key: Key | None = None
    sources: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What answers are made with; `answer_timeout_s` is for a whole one."""

    edge: Edge
    chat: Chat | None
    speech: Speech
    records: Records
    measures: Measures
    slots: Slots
    answer_timeout_s: float
    audio_url: Callable[[str], str]


async def answer(means: Means, task: Task, interaction: Interaction) -> None:
    """Make an answer, and tell what happens on the way; raises EdgeError."""
    if means.chat is None:
        raise EdgeError(503, "chat_not_configured", "No chat model is configured here.", retry_after_s=60)
    async with means.slots.taken(task.subscriber), _in_time(means.answer_timeout_s):
        task.walk.reached("queue")
        await _Making(means, task, interaction, means.chat).run()
    task.walk.reached("whole")


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

    def __init__(self, means: Means, task: Task, interaction: Interaction, chat: Chat) -> None:
        self._means = means
        self._task = task
        self._interaction = interaction
        self._walk = task.walk
        self._chat = chat
        self._text: list[str] = []
        self._cutter = Pieces()
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self._due: asyncio.TimerHandle | None = None
        self._proposed = ""
        self._usage: Usage | None = None
        self._silence: str | None = None

    async def run(self) -> None:
        """Write and speak at once, then keep what came of it; what was written for nothing has its cost kept."""
        try:
            await self._make()
        except BaseException:
            if self._text or self._usage:
                with suppress(EdgeError):
                    await self._note_cost()
            raise

    async def _make(self) -> None:
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
        tools = (TOOL,) if self._task.proposes else ()
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
        task, now = self._task, self._means.edge.clock.now()
        approval = None if proposal is None else make_approval(task.executive, proposal, now)
        answer = Answer(
            executive_id=task.executive.id,
            response="".join(self._text).strip(),
            timestamp=now,
            session_id=task.session,
            audio=await self._audio(),
            approval=approval and Proposed(id=approval.id, action=approval.action, expires_at=approval.expires_at),
            sources=None if task.sources is None else dict(task.sources),
        )
        await self._means.records.keep(
            task.subscriber, answer, task.action, self._cost(), question=task.question, key=task.key, approval=approval
        )
        self._interaction.tell(Done(answer))

    async def _audio(self) -> Audio | None:
        recording = self._interaction.recording
        if not self._task.spoken:
            return None
        if self._silence is None and recording.duration_s:
            return Audio(duration=round(recording.duration_s, 3), url=self._means.audio_url(recording.id))
        await recording.discard()
        return Audio(error=self._silence or "there was nothing to say")

    async def _note_cost(self) -> None:
        task, now = self._task, self._means.edge.clock.now()
        await self._means.records.note_cost(task.subscriber, task.executive.id, task.action, self._cost(), at=now)

    def _cost(self) -> Cost:
        usage = self._usage
        return Cost(
            self._chat.model,
            None if usage is None else usage.prompt_tokens,
            None if usage is None else usage.completion_tokens,
            round(self._interaction.recording.duration_s * 1000),
        )


def _first(faults: BaseExceptionGroup[SpeechError]) -> BaseException:
    fault: BaseException = faults
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return fault
