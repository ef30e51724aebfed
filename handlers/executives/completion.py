"""Owns what is said to a chat model and by it, in OpenAI's form of `/chat/completions`, streamed.

Must not know connections, nor who asks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, TypeGuard

import orjson

from handlers.executives.thoughts import Thoughts

_END: Final = "[DONE]"
# More are a mistake of the server, and no column holds them.
_MOST_TOKENS: Final = 2**31 - 1
_LONGEST_CALLS: Final = 65_536
# What a chunk may hold that the model has written; thoughts have names of their own, and are not told.
_WRITTEN: Final = ("content", "refusal", "tool_calls", "reasoning_content", "reasoning")
_OPENAI: Final = (".openai.com", ".openai.azure.com")
_BROKEN_OFF: Final = frozenset({"error", "abort"})


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


def limit_name(host: str) -> str:
    """Return what a host calls the longest answer: OpenAI's own has left the word that all others know."""
    return "max_completion_tokens" if f".{host}".endswith(_OPENAI) else "max_tokens"


def request_body(
    model: str, turns: Sequence[Turn], tools: Sequence[Mapping[str, object]], limit: Mapping[str, int]
) -> bytes:
    """Return the JSON that asks for an answer which comes as it is written; `limit` is its longest, by its name."""
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
        "stream": True,
        "stream_options": {"include_usage": True},
        **limit,
    }
    return orjson.dumps(body | ({"tools": list(tools)} if tools else {}))


class Completion:
    """Reads one answer, chunk after chunk.

    `begun` once the model has written something, be it a thought that nobody is told; `whole` once the server has said
    that nothing of the answer is missing: what may still come is what it has cost. `over` once nothing comes any more.
    """

    def __init__(self) -> None:
        self.begun = False
        self.whole = False
        self.over = False
        self._thoughts = Thoughts()
        self._calls = _Calls()
        self._usage: Usage | None = None

    def read(self, data: str) -> Iterator[Said]:
        """Yield what a chunk says; raises BrokenError."""
        if data == _END:
            self.whole = self.over = True
            return
        chunk = _table(_parsed(data))
        # Some servers say that they failed, and end as if they had not.
        if chunk.get("error") or chunk.get("object") == "error":
            raise BrokenError
        for choice in map(_table, _list(chunk.get("choices"))):
            yield from self._choice(choice)
        usage = _table(chunk.get("usage"))
        counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if _counts(counts[0]) and _counts(counts[1]):
            self._usage = Usage(counts[0], counts[1])

    def finish(self) -> Iterator[ChatEvent]:
        """Yield what is known only when the stream has ended; raises BrokenError if it broke off."""
        if not self.whole:
            raise BrokenError
        if rest := self._thoughts.finish():
            yield Said(rest)
        if self._usage is not None:
            yield self._usage
        yield from self._calls.all()

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[Said]:
        delta = _table(choice.get("delta"))
        self.begun = self.begun or any(delta.get(name) for name in _WRITTEN)
        # No database stores NUL as text.
        written = (_text(delta.get("content")) or _text(delta.get("refusal"))).replace("\0", "")
        if text := self._thoughts.leave_out(written):
            yield Said(text)
        for call in map(_table, _list(delta.get("tool_calls"))):
            self._calls.add(call)
        if (reason := _text(choice.get("finish_reason"))) in _BROKEN_OFF:
            raise BrokenError
        self.whole = self.whole or bool(reason)


class _Calls:
    """The functions that are called in one answer; their arguments come in parts."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._at: dict[int, _Call] = {}
        self._length = 0

    def add(self, part: Mapping[str, Any]) -> None:
        """Take a part of a call; raises BrokenError if they become too long."""
        index, function = part.get("index", 0), _table(part.get("function"))
        if not isinstance(index, int):
            raise BrokenError
        call = self._call(index, _text(part.get("id")))
        name, arguments = _text(function.get("name")), _text(function.get("arguments"))
        call.name = call.name or name
        call.arguments.append(arguments)
        self._length += len(name) + len(arguments) + 1
        if self._length > _LONGEST_CALLS:
            raise BrokenError

    def all(self) -> Iterator[Called]:
        """Yield the calls in their order."""
        return (Called(call.name, "".join(call.arguments)) for call in self._calls if call.name)

    def _call(self, index: int, given: str) -> "_Call":
        """Return the call that a part belongs to; some servers count all as the first, and tell them apart by id."""
        call = self._at.get(index)
        if call is None or (given and call.id and given != call.id):
            call = self._at[index] = _Call()
            self._calls.append(call)
        call.id = call.id or given
        return call


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


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


def _counts(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and 0 <= value <= _MOST_TOKENS
