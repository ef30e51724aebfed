"""Owns speech on disk: a file for each answer, which grows while it is spoken, and goes after a while.

Files are WAV: 24 kHz, 16 bits, mono. Must not know what is said in them, nor how they are served.
"""

import asyncio
import os
import secrets
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from handlers.executives.events import Sounded

SAMPLE_RATE, SAMPLE_BYTES = 24_000, 2
_HEADER_BYTES = 44
# What was written to so lately may still grow.
_GROWS = timedelta(minutes=2)
_ID_BYTES = 16  # nobody guesses 128 random bits


class Recording:
    """One answer's speech; nothing is written before its first samples."""

    def __init__(self, directory: Path, recording_id: str) -> None:
        self.id = recording_id
        self.path = directory / f"{recording_id}.wav"
        self._length = 0
        self._writing: asyncio.Future[None] | None = None

    @property
    def duration_s(self) -> float:
        """How long it is, so far."""
        return self._length / (SAMPLE_RATE * SAMPLE_BYTES)

    async def append(self, samples: bytes) -> Sounded:
        """Write more samples and return where they are; raises OSError."""
        offset = self._length
        # Whoever is cancelled here does not end what a thread does.
        self._writing = asyncio.ensure_future(asyncio.to_thread(self._write, _HEADER_BYTES + offset, samples))
        await asyncio.shield(self._writing)
        self._length += len(samples)
        return Sounded(offset, len(samples))

    async def read(self, offset: int, length: int) -> bytes:
        """Return samples that were appended; raises OSError."""
        return await asyncio.to_thread(self._read, _HEADER_BYTES + offset, length)

    async def finish(self) -> None:
        """Write the head, which says how long it is; raises OSError."""
        await asyncio.to_thread(self._write, 0, wav_header(self._length))

    async def discard(self) -> None:
        """Have it never been."""
        self._length = 0
        if self._writing is not None:
            await asyncio.wait([self._writing])
        with suppress(OSError):
            await asyncio.to_thread(self.path.unlink, missing_ok=True)

    async def whole(self) -> bytes:
        """Return the whole file; raises OSError."""
        return await asyncio.to_thread(self.path.read_bytes)

    def _write(self, at: int, content: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            file.seek(at)
            file.write(content)

    def _read(self, at: int, length: int) -> bytes:
        with self.path.open("rb", buffering=0) as file:
            file.seek(at)
            return file.read(length)


class Left(NamedTuple):
    """A recording on disk: where it is, for how long it can be fetched, and how many bytes it has."""

    path: Path
    time: timedelta
    size: int


class Recordings:
    """All of them in one directory; each is kept for `kept`, as long as all together have no more than `most_bytes`."""

    def __init__(self, directory: Path, kept: timedelta, most_bytes: int, now: Callable[[], datetime]) -> None:
        self._directory = directory
        self._kept = kept
        self._most_bytes = most_bytes
        self._now = now

    def new(self) -> Recording:
        """Return one that is still empty."""
        return Recording(self._directory, secrets.token_urlsafe(_ID_BYTES))

    def old(self, recording_id: str) -> Recording:
        """Return one that was finished, and may have gone."""
        return Recording(self._directory, recording_id)

    def left(self, recording_id: str) -> Left | None:
        """Return what is left of a recording; None if there is none, or none any more."""
        try:
            left = self._look(self.old(recording_id).path)
        except OSError:
            return None
        return left if left.time > timedelta(0) else None

    def sweep(self) -> int:
        """Remove what is too old, and the oldest of what is too much; return how many went."""
        gone = room = 0
        for left in sorted(self._all(), key=lambda left: left.time, reverse=True):
            room += left.size
            if left.time <= timedelta(0) or (room > self._most_bytes and self._kept - left.time > _GROWS):
                with suppress(OSError):
                    left.path.unlink()
                    gone += 1
        return gone

    def _all(self) -> Iterator[Left]:
        for path in self._directory.glob("*.wav"):
            with suppress(OSError):
                yield self._look(path)

    def _look(self, path: Path) -> Left:
        status, now = path.stat(), self._now()
        age = now - datetime.fromtimestamp(status.st_mtime, now.tzinfo)
        return Left(path, self._kept - age, status.st_size)


def wav_header(length: int) -> bytes:
    """Return the 44 bytes before so many bytes of samples."""
    rate = SAMPLE_RATE * SAMPLE_BYTES
    form = struct.pack("<IHHIIHH", 16, 1, 1, SAMPLE_RATE, rate, SAMPLE_BYTES, 8 * SAMPLE_BYTES)
    riff = b"RIFF" + struct.pack("<I", length + _HEADER_BYTES - 8)
    return riff + b"WAVEfmt " + form + b"data" + struct.pack("<I", length)
