"""Owns how an answer in the making is written to one caller: as JSON once it is whole, or event by event as it comes.

Must not know how it is made.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import assert_never

from aiohttp import hdrs

from handlers.executives.events import Began, Done, Event, Failed, FellSilent, Said, Sounded
from handlers.executives.interaction import Interaction
from handlers.executives.models import Answer, AudioWanted
from handlers.executives.recording import SAMPLE_RATE
from handlers.executives.sse import write_event
from sovren_edge.handler import EdgeError, EventStream, Problem, Request

# Proxies between us and the caller cut what is silent for long.
_BEAT_S = 15.0
_PATIENCE_S = 60.0
_BEAT = b":\n\n"
# Speech that is told at once: a third of a second.
_AUDIO_BYTES = 16_384


def wants_events(request: Request) -> bool:
    """Whether a caller wants to be told as it comes."""
    accepted = (part.partition(";")[0].strip().lower() for part in request.headers.get(hdrs.ACCEPT, "").split(","))
    return EventStream.media_type in accepted


async def reply(request: Request, interaction: Interaction, audio: AudioWanted) -> Answer | EventStream:
    """Answer a caller in the form that it wants; raises EdgeError as long as nothing of an answer is told."""
    with interaction.followed():
        if wants_events(request):
            return await _stream(request, interaction, audio)
        async for _ in interaction.events():
            pass
        match interaction.end:
            case Done(answer):
                return await _finished(answer, interaction, audio)
            case Failed(problem):
                raise _raised(problem)
    raise RuntimeError("the events of an interaction go to its end")


def _raised(problem: Problem) -> EdgeError:
    """Return the error that tells a problem."""
    return EdgeError(
        problem.status, problem.reason, problem.detail, side=problem.side, retry_after_s=problem.retry_after_s
    )


async def _finished(answer: Answer, interaction: Interaction, wanted: AudioWanted) -> Answer:
    """Return an answer with its audio as it is wanted."""
    if answer.audio is None or wanted == "none":
        return answer.model_copy(update={"audio": None})
    if wanted == "url" or answer.audio.url is None:
        return answer
    try:
        content = base64.b64encode(await interaction.recording.whole()).decode()
    except OSError:
        return answer
    return answer.model_copy(update={"audio": answer.audio.model_copy(update={"base64": content})})


async def _stream(request: Request, interaction: Interaction, wanted: AudioWanted) -> EventStream:
    response: EventStream | None = None
    async for events in interaction.events(_BEAT_S):
        if response is None:
            match events:
                case [Failed(problem), *_]:
                    raise _raised(problem)
            response = EventStream()
            await response.prepare(request)
        async for written in _gathered(events, interaction, wanted):
            await _write(request, response, written)
    if response is None:
        raise RuntimeError("an interaction has at least one event")
    return response


async def _gathered(events: Sequence[Event], interaction: Interaction, wanted: AudioWanted) -> AsyncIterator[bytes]:
    """Yield events as they are written, not in many small parts, and not all of a long answer at once."""
    gathered = b"" if events else _BEAT
    for event in events:
        async for written in _written(event, interaction, wanted):
            gathered += written
            if len(gathered) >= _AUDIO_BYTES:
                yield gathered
                gathered = b""
    if gathered:
        yield gathered


async def _write(request: Request, response: EventStream, written: bytes) -> None:
    """Send it; a caller that reads nothing for long is cut off."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await response.write(written)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the caller does not read") from None


async def _written(event: Event, interaction: Interaction, wanted: AudioWanted) -> AsyncIterator[bytes]:
    match event:
        case Began():
            yield write_event("session", {"sessionId": str(event.session_id), "executiveId": event.executive_id})
        case Said():
            yield write_event("text", {"delta": event.text})
        case Sounded():
            for offset, length in _slices(event):
                try:
                    samples = await interaction.recording.read(offset, length)
                except OSError:
                    return
                data = base64.b64encode(samples).decode()
                yield write_event("audio", {"format": "pcm", "sampleRate": SAMPLE_RATE, "data": data})
        case FellSilent():
            yield write_event("audio_error", {"error": event.reason, "message": event.reason})
        case Done():
            answer = await _finished(event.answer, interaction, wanted)
            yield write_event("done", answer.model_dump(mode="json", by_alias=True))
        case Failed():
            yield write_event("error", event.problem.members())
        case _:
            assert_never(event)


def _slices(sounded: Sounded) -> Iterator[tuple[int, int]]:
    end = sounded.offset + sounded.length
    for offset in range(sounded.offset, end, _AUDIO_BYTES):
        yield offset, min(_AUDIO_BYTES, end - offset)
