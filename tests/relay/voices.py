"""Endpoints that speak an alphabet of their own: two bytes of pcm for each byte of text, so that nothing hides."""

import asyncio
import struct
from collections.abc import Awaitable, Callable

import orjson

from sovren_edge.http.request import parse_request

LONG = (
    "The board met on Monday at nine. It heard Dr. Smith on the figures of the third quarter, which were better than "
    "expected. Sales rose by 3.4 percent! Was that luck? Nobody in the room believed so, and the chair said as much. "
    "Then the talk turned to the new plant, its cost, its site and the people who would have to move there. "
    "After two hours a vote was taken. Seven were for it, and two against. The meeting closed at noon."
)


def sound(text: str) -> bytes:
    """Return the samples of a text."""
    return b"".join(struct.pack("<h", 257 * byte % 32768) for byte in text.encode())


def wav(text: str, *, rate: int = 24_000, size: int | None = None) -> bytes:
    """Return the same behind a header, of a size that is true unless another is given."""
    samples = sound(text)
    form = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    length = struct.pack("<I", len(samples) if size is None else size)
    return b"RIFF" + length + b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + length + samples


def text_of(body: bytes) -> str:
    """Return the text of a request."""
    text = orjson.loads(body)["input"]
    assert isinstance(text, str)
    return text


def response(body: bytes, *, media_type: str = "audio/pcm", status: str = "200 OK") -> bytes:
    """Return a whole answer."""
    return f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def speaking(head: bytes, body: bytes) -> bytes:
    """Speak as OpenAI's form asks, pcm or wav."""
    assert parse_request(head, trusted=True).method == "POST"
    if orjson.loads(body).get("response_format") == "wav":
        return response(wav(text_of(body)), media_type="audio/wav")
    return response(sound(text_of(body)))


def request(text: str = LONG, audio_format: str = "pcm", path: str = "/v1/audio/speech") -> bytes:
    """Return a caller's request, after which its connection is closed."""
    body = orjson.dumps({"model": "tts-1", "input": text, "voice": "alloy", "response_format": audio_format})
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


Speak = Callable[[bytes, bytes], bytes | Awaitable[bytes]]


def slowly(gate: asyncio.Event, speak: Speak = speaking) -> Speak:
    """Speak when a gate is opened."""

    async def answer(head: bytes, body: bytes) -> bytes:
        await gate.wait()
        made = speak(head, body)
        return made if isinstance(made, bytes) else await made

    return answer
