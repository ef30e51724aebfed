"""A text that is still being written is spoken: in order, the next piece ahead."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from handlers.executives.speech import AHEAD, Pieces, Speech, SpeechError, speak
from sovren_edge.handler import Edge


@dataclass
class Engine:
    """Speaks a piece when the test lets it; `asked` are those that it was asked for."""

    asked: list[str] = field(default_factory=list)
    let: dict[str, asyncio.Event] = field(default_factory=dict)
    heard: list[bytes] = field(default_factory=list)

    async def samples(self, text: str) -> AsyncIterator[bytes]:
        """Say a piece's name, then its name in capitals."""
        self.asked.append(text)
        yield text.encode()
        await self.let.setdefault(text, asyncio.Event()).wait()
        if text == "fails":
            raise SpeechError("it broke")
        yield text.upper().encode()

    async def sound(self, samples: bytes) -> None:
        """Hear it."""
        self.heard.append(samples)


def queue(*pieces: str) -> Pieces:
    """Return pieces that wait to be spoken."""
    waiting: Pieces = asyncio.Queue()
    for piece in pieces:
        waiting.put_nowait(piece)
    return waiting


async def settle() -> None:
    """Let everything go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_pieces_are_heard_in_order_and_the_next_one_is_made_ahead() -> None:
    """However soon a later one is ready; no more of them are made at once than that."""
    engine, pieces = Engine(), queue("a", "b", "c")
    speaking = asyncio.ensure_future(speak(pieces, engine.samples, engine.sound))
    await settle()
    assert engine.asked == ["a", "b"]
    assert len(engine.asked) == AHEAD
    engine.let["b"].set()
    await settle()
    assert engine.heard == [b"a"]
    engine.let["a"].set()
    await settle()
    assert engine.heard == [b"a", b"A", b"b", b"B", b"c"]
    engine.let["c"].set()
    pieces.put_nowait(None)
    await speaking
    assert engine.heard[-1] == b"C"


async def test_nothing_to_say_is_nothing_said() -> None:
    """The end alone."""
    engine, pieces = Engine(), queue()
    pieces.put_nowait(None)
    await speak(pieces, engine.samples, engine.sound)
    assert engine.asked == []


async def test_a_piece_that_fails_ends_it() -> None:
    """Whatever else is being made, or still written."""
    engine = Engine()
    speaking = asyncio.ensure_future(speak(queue("a", "fails", "c"), engine.samples, engine.sound))
    await settle()
    engine.let["fails"].set()
    with pytest.raises(ExceptionGroup) as raised:
        await speaking
    assert raised.group_contains(SpeechError, match="it broke")
    assert engine.asked == ["a", "fails"]


async def test_samples_come_whole(edge: Edge) -> None:
    """Asked for as a caller who waits, on the subscriber's behalf; half a sample waits for its other half."""
    asked: list[tuple[object, str | None, str | None]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        headers = request.headers
        asked.append((await request.json(), headers.get("X-Sovren-Priority"), headers.get("X-Sovren-Caller")))
        response = web.StreamResponse(headers={"Content-Type": "audio/pcm"})
        await response.prepare(request)
        for part in (b"a", b"bc", b"defg"):
            await response.write(part)
            await asyncio.sleep(0.01)
        return response

    application = web.Application()
    application.router.add_post("/v1/audio/speech", answer)
    async with TestServer(application) as server:
        edge.doors["tts-master"] = str(server.make_url("")).rstrip("/")  # type: ignore[index] # the test's own
        speech = Speech(edge, "tts-master", "tts-1", 5.0)
        parts = [part async for part in speech.samples("Hello.", "sage", "founder")]
        await anext(speech.samples("Hello.", "sage", "jürgen"))
    assert b"".join(parts) == b"abcdef"
    assert all(len(part) % 2 == 0 for part in parts)
    body = {"model": "tts-1", "input": "Hello.", "voice": "sage", "response_format": "pcm"}
    assert asked == [(body, "interactive", "founder"), (body, "interactive", None)]


@pytest.mark.parametrize("status", [400, 503])
async def test_refusals_are_told_without_their_words(edge: Edge, status: int) -> None:
    """By their status."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text="secret")

    application = web.Application()
    application.router.add_post("/v1/audio/speech", answer)
    async with TestServer(application) as server:
        edge.doors["tts-master"] = str(server.make_url("")).rstrip("/")  # type: ignore[index] # the test's own
        with pytest.raises(SpeechError, match=f"^speech was refused with status {status}$"):
            await anext(Speech(edge, "tts-master", "tts-1", 5.0).samples("Hello.", "sage", "founder"))
