"""Owns server-sent events as bytes: reading a stream of them, and writing one (WHATWG HTML, 9.2).

Must not know what events mean.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import orjson

LONGEST_EVENT: Final = 1 << 20
_BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class TooLongError(Exception):
    """An event is longer than anybody would send."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event; `name` is `message` where none is said."""

    name: str
    data: str


class Reader:
    """Reads a stream, however it comes in chunks."""

    def __init__(self) -> None:
        self._lines = _Lines()
        self._name = ""
        self._data: list[str] = []
        self._length = 0

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        """Yield the events that a chunk completes; raises TooLongError once one is longer than LONGEST_EVENT bytes."""
        for line in self._lines.feed(chunk):
            self._check(len(line))
            if line:
                self._field(line)
            elif (event := self._dispatched()) is not None:
                yield event
        self._check(self._lines.waiting)

    def _check(self, more: int) -> None:
        if self._length + more > LONGEST_EVENT:
            raise TooLongError

    def _field(self, line: bytes) -> None:
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._length += len(line)
        elif name == "event":
            self._name = value

    def _dispatched(self) -> ServerEvent | None:
        name, data = self._name or "message", self._data
        self._name, self._data, self._length = "", [], 0
        return ServerEvent(name, "\n".join(data)) if data else None


class _Lines:
    """Cuts a stream into lines; the cost is linear, however it comes in chunks."""

    def __init__(self) -> None:
        self._begun = False
        self._after_cr = False
        self._rest = bytearray()

    @property
    def waiting(self) -> int:
        """How many bytes of a line have come whose end has not."""
        return len(self._rest)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the lines that a chunk ends, without their ends; a CR ends one at once, whatever follows."""
        text = self._without_mark(chunk)
        at = int(self._after_cr and text.startswith(b"\n"))
        self._after_cr = text.endswith(b"\r") or (self._after_cr and not text)
        for end in _LINE_END.finditer(text, at):
            yield bytes(self._rest + text[at : end.start()])
            self._rest.clear()
            at = end.end()
        self._rest += text[at:]

    def _without_mark(self, chunk: bytes) -> bytes:
        """Take the byte order mark off the stream's beginning."""
        if self._begun:
            return chunk
        text = bytes(self._rest + chunk)
        self._rest.clear()
        self._begun = len(text) >= len(_BOM) or not _BOM.startswith(text)
        if self._begun:
            return text.removeprefix(_BOM)
        self._rest += text
        return b""


def write_event(name: str, data: object) -> bytes:
    """Return one event whose data is JSON, which has no line ends."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"
