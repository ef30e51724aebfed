"""Asks executives, and reads what streams back: what of an answer came when.

Must not know how the program was started.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import aiohttp
import orjson
import sentencex
from processes import BenchError


@dataclass
class Heard:
    """One answer; times are in seconds since it was asked for."""

    asked_at: float = field(default_factory=monotonic)
    text: str = ""
    first_text_s: float | None = None
    first_sentence_s: float | None = None
    first_audio_s: float | None = None
    text_s: float = 0.0
    whole_s: float = 0.0
    samples: int = 0
    answer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sentences(self) -> int:
        """How many sentences it has."""
        return len(sentences_of(self.text))

    def take(self, name: str, data: Mapping[str, Any]) -> None:
        """Note one event."""
        now = monotonic() - self.asked_at
        match name:
            case "text":
                self._take_text(data["delta"], now)
            case "audio":
                self.first_audio_s = now if self.first_audio_s is None else self.first_audio_s
                self.samples += len(data["data"]) * 3 // 8
            case "done":
                self.whole_s, self.answer = now, data
                self.first_sentence_s = self.text_s if self.first_sentence_s is None else self.first_sentence_s
            case "error" | "audio_error":
                raise BenchError(f"an answer failed: {data}")

    def _take_text(self, delta: str, now: float) -> None:
        self.first_text_s = now if self.first_text_s is None else self.first_text_s
        self.text, self.text_s = self.text + delta, now
        if self.first_sentence_s is None and len(sentences_of(self.text)) > 1:
            self.first_sentence_s = now


def sentences_of(text: str) -> list[str]:
    """Return a text's sentences that say something."""
    return [one for one in sentencex.segment("en", text) if any(map(str.isalnum, one))]


async def ask(session: aiohttp.ClientSession, url: str, question: Mapping[str, object]) -> Heard:
    """Ask, and return what was heard; BenchError if it was not answered to its end."""
    heard = Heard()
    async with session.post(url, json=question, headers={"Accept": "text/event-stream"}) as answer:
        if answer.status != 200:
            raise BenchError(f"an answer has status {answer.status}: {await answer.text()}")
        async for name, data in events(answer):
            heard.take(name, data)
    if not heard.answer:
        raise BenchError("an answer broke off")
    return heard


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    """Yield the events of a stream that we wrote ourselves: a name and a line of JSON each."""
    name = ""
    rest = b""
    async for chunk in answer.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"event: "):
                name = line[7:].decode()
            elif line.startswith(b"data: "):
                yield name, orjson.loads(line[6:])
