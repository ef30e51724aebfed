"""Owns what is said to a chat model and by it, in OpenAI's form of `/chat/completions`, streamed.

Must not know connections, nor who asks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import orjson

_END: Final = "[DONE]"
_LONGEST_ARGUMENTS: Final = 65_536


class BrokenError(Exception):
    """The server says that it failed, or says what nobody understands."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One part of what a model is told."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Said:
    """More of its answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """A function that it calls, with its arguments as JSON; told once it is whole."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What the answer has cost; servers tell it at the end, or not at all."""

    prompt_tokens: int
    completion_tokens: int


ChatEvent: TypeAlias = Said | Called | Usage


def request_body(model: str, turns: Sequence[Turn], tools: Sequence[Mapping[str, object]], max_tokens: int) -> bytes:
    """Return what asks for an answer that comes as it is written."""
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return orjson.dumps(body | ({"tools": list(tools)} if tools else {}))


class Completion:
    """Reads one answer, chunk after chunk; `whole` once the server has said that it is."""

    def __init__(self) -> None:
        self.whole = False
        self._calls: dict[int, list[str]] = {}

    def read(self, data: str) -> Iterator[ChatEvent]:
        """Yield what a chunk says; raises BrokenError."""
        if data == _END:
            self.whole = True
            return
        chunk = _table(_parsed(data))
        if chunk.get("error"):
            raise BrokenError
        for choice in map(_table, _list(chunk.get("choices"))):
            yield from self._choice(choice)
        usage = _table(chunk.get("usage"))
        counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if isinstance(counts[0], int) and isinstance(counts[1], int):
            yield Usage(counts[0], counts[1])

    def finish(self) -> Iterator[ChatEvent]:
        """Yield what is known to be whole only when the stream has ended; raises BrokenError if it broke off."""
        if not self.whole:
            raise BrokenError
        for _, (name, *arguments) in sorted(self._calls.items()):
            yield Called(name, "".join(arguments))

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[ChatEvent]:
        delta = _table(choice.get("delta"))
        # PostgreSQL keeps every character but NUL.
        if text := _text(delta.get("content")).replace("\0", ""):
            yield Said(text)
        for call in map(_table, _list(delta.get("tool_calls"))):
            self._call(call)
        self.whole = self.whole or bool(choice.get("finish_reason"))

    def _call(self, call: Mapping[str, Any]) -> None:
        index, function = call.get("index", 0), _table(call.get("function"))
        if not isinstance(index, int):
            raise BrokenError
        parts = self._calls.setdefault(index, [""])
        parts[0] = parts[0] or _text(function.get("name"))
        parts.append(_text(function.get("arguments")))
        if sum(map(len, parts)) > _LONGEST_ARGUMENTS:
            raise BrokenError


def first_model(body: bytes) -> str:
    """Return the first name in a server's list of models; empty where there is none."""
    try:
        models = _list(_table(orjson.loads(body)).get("data"))
    except orjson.JSONDecodeError:
        return ""
    return next((name for name in (_text(_table(model).get("id")) for model in models) if name), "")


def _parsed(data: str) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        raise BrokenError from None


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
