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
        self._rest = b""
        self._begun = False
        self._name = ""
        self._data: list[str] = []
        self._length = 0

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        """Yield the events that a chunk completes; raises TooLongError."""
        for line in self._lines(chunk):
            if line:
                self._field(line)
            elif (event := self._dispatched()) is not None:
                yield event

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        """Yield whole lines; a CR at the end may be half of a CRLF, and waits."""
        text = self._rest + chunk
        if not self._begun:
            if len(text) < len(_BOM) and _BOM.startswith(text):
                self._rest = text
                return
            text = text.removeprefix(_BOM)
            self._begun = True
        at = 0
        for end in _LINE_END.finditer(text):
            if end.end() == len(text) and end.group() == b"\r":
                break
            yield text[at : end.start()]
            at = end.end()
        self._rest = text[at:]
        if len(self._rest) + self._length > LONGEST_EVENT:
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


def write_event(name: str, data: object) -> bytes:
    """Return one event whose data is JSON, which has no line ends."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"
