"""Owns where a message's body ends (RFC 9112, sections 6 and 7): sized, chunked, or with the connection.

Must not know heads or connections. Chunk extensions and trailers are read and dropped, as an intermediary may.
"""

import re
from typing import Protocol

LAST_CHUNK = b"0\r\n\r\n"
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t !-~\x80-\xff]*)?\r\n")
_TRAILER_LINE = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t !-~\x80-\xff]*)?\r\n")
_LINE_LIMIT = 4096
# Chunks and lines that are read in one go: bytes that are chunks of one byte each must not hold the loop, and a turn is
# to take less than a millisecond with all that follows from it (bench/worst.py).
STEPS_A_TURN = 200
_TRAILERS_LIMIT = 16384


class FramingError(ValueError):
    """A body's framing is not what RFC 9112 allows."""


class BodyReader(Protocol):
    """Reads one body from the bytes of a connection."""

    done: bool

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Return the body's pieces in these bytes, and what was not read.

        That is what stands behind the body's end, or, while it is not `done`, what should be read in a further turn.
        """


class SizedReader:
    """Reads a body of a known length."""

    __slots__ = ("done", "remaining")

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.done = length == 0

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """See BodyReader; a piece that is the whole of `data` is not copied."""
        size = len(data)
        if size <= self.remaining:
            self.remaining -= size
            self.done = self.remaining == 0
            return [data], b""
        piece, rest = data[: self.remaining], data[self.remaining :]
        self.remaining, self.done = 0, True
        return ([piece] if piece else []), rest


class UntilCloseReader:
    """Reads a body that ends with the connection; whoever owns the connection says when."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """See BodyReader."""
        return [data], b""


class ChunkedReader:
    """Reads a chunked body, strictly: a line that could be read in two ways is an error."""

    __slots__ = ("_in_trailers", "_partial", "_remaining", "_trailers_size", "done")

    def __init__(self) -> None:
        self.done = False
        # Bytes of the current chunk still to come, with the CRLF behind it; 0 when a size line is next.
        self._remaining = 0
        self._partial = b""
        self._in_trailers = False
        self._trailers_size = 0

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """See BodyReader; raises FramingError."""
        if self._partial:
            data, self._partial = self._partial + data, b""
        pieces: list[bytes] = []
        at = steps = 0
        while at < len(data) and not self.done and steps < STEPS_A_TURN:
            steps += 1
            taken = self._data(data, at, pieces) if self._remaining else self._line(data, at, pieces)
            if not taken:
                self._partial = data[at:]
                return pieces, b""
            at += taken
        return pieces, data[at:]

    def _data(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Take what there is of the current chunk and of the CRLF behind it; return how many bytes."""
        wanted = self._remaining - 2
        if wanted > 0:
            piece = data[at : at + wanted]
            pieces.append(piece)
            self._remaining -= len(piece)
            return len(piece)
        ending = data[at : at + self._remaining]
        if not b"\r\n"[-self._remaining :].startswith(ending):
            raise FramingError("a chunk's data does not end where its size says")
        self._remaining -= len(ending)
        return len(ending)

    def _line(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Take a whole size or trailer line, and its chunk if that is whole; return how many bytes, 0 for no line."""
        end = data.find(b"\n", at, at + _LINE_LIMIT)
        if end < 0:
            if len(data) - at >= _LINE_LIMIT:
                raise FramingError("a chunk's line is too long")
            return 0
        line = data[at : end + 1]
        if self._in_trailers:
            self._take_trailer(line)
        else:
            self._take_size(line)
            behind = end + 1 + self._remaining
            if self._remaining and data[behind - 2 : behind] == b"\r\n":
                pieces.append(data[end + 1 : behind - 2])
                self._remaining = 0
                return behind - at
        return len(line)

    def _take_size(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise FramingError("a chunk's size line is malformed")
        size = int(match[1], 16)
        self._remaining = size + 2 if size else 0
        self._in_trailers = size == 0

    def _take_trailer(self, line: bytes) -> None:
        self._trailers_size += len(line)
        if self._trailers_size > _TRAILERS_LIMIT or _TRAILER_LINE.fullmatch(line) is None:
            raise FramingError("a trailer is malformed or too long")
        self.done = line == b"\r\n"


def chunk(pieces: list[bytes]) -> list[bytes]:
    """Frame pieces as one chunk, without joining them."""
    return [b"%x\r\n" % sum(map(len, pieces)), *pieces, b"\r\n"]
