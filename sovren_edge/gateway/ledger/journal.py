"""Owns the journal: records that the database did not acknowledge, kept on disk until they have been replayed.

Must not know what a record means, when one is written or where it is replayed. Every call blocks: use a thread.
How records lie in the file, and which bytes of it are believed after a crash, is said in frames.py.

A process that died before fdatasync returned, or in whose life it failed, leaves bytes that are read from memory though
the disk may not have them. So opening writes header and last frame once more and syncs, before anything follows them.

Emptying cuts the file off behind its header. A crash in the midst of that leaves all records or a beginning of them,
never a hole, and replaying some of them again is harmless.
"""

import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from sovren_edge.gateway.ledger.frames import (
    FIRST_FRAME,
    LONGEST_OWNER,
    MARKER_SIZE,
    Extent,
    Header,
    JournalError,
    bad_header,
    bad_inside,
    decode_header,
    decode_payload,
    encode_frame,
    encode_header,
    end_of,
    extent_of,
    frames,
    written,
)

# JournalError is had from here too: whoever uses a journal needs nothing else of its format.

# Below the directory where the program keeps its state.
FOLDER = "gateway"
SUFFIX = ".journal"
LARGEST = 1 << 30

_FULL = "is full, and takes no more until it has been replayed"
# Whoever looks for leftovers holds each lock for a moment.
_LOCK_TRIES = 20
_LOCK_PAUSE_S = 0.01


class JournalInUseError(JournalError):
    """Another process has the journal open, or this one has it open already."""


class JournalFullError(JournalError):
    """A group did not fit: nothing of it was written, and the journal is closed until it is reset."""


class JournalClosedError(JournalError):
    """The journal takes no more records; the group of the append that failed may be in it or not, all or nothing."""


class Journal:
    """An open journal, locked against other openers until it is closed; threads may share it."""

    def __init__(self, path: Path, file: int, header: Header, extent: Extent, size: int) -> None:
        self.path = path
        self.owner = header.owner
        self.torn_bytes = extent.torn_bytes
        self._file = file
        self._marker = header.marker
        self._size = size
        self._end = extent.end
        self._read_to = FIRST_FRAME
        self._full = False
        self._failure: str | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def used_bytes(self) -> int:
        """What the records take in the file, with their framing; 0 if there are none."""
        return self._end - FIRST_FRAME

    @property
    def free_bytes(self) -> int:
        """What is left of the reserved space."""
        return self._size - self._end

    @property
    def closed(self) -> bool:
        """Whether it takes no more records: it is full until it is reset, or has failed for good."""
        return self._full or self._failure is not None

    def append(self, records: Sequence[bytes]) -> None:
        """Return once all of the group is on disk; after a crash all of an unacknowledged group is there or none.

        Raises JournalFullError if it does not fit, and JournalClosedError if writing or syncing fails, or once did.
        """
        frame = encode_frame(self._marker, records)
        with self._lock:
            self._check_open()
            if len(frame) > self.free_bytes:
                self._full = True
                raise JournalFullError(self.path, _FULL)
            with self._failing():
                write_at(self._file, self._end, frame)
                os.fdatasync(self._file)
            self._end += len(frame)

    @property
    def read_to(self) -> int:
        """Where the last pass of `records` has ended."""
        return self._read_to

    def records(self, position: int = FIRST_FRAME) -> Iterator[bytes]:
        """Yield acknowledged records in order, also those that are appended meanwhile; needs their size in memory.

        All of them, or those since where another pass has ended. Works on a full or failed journal too. Raises
        JournalError if they cannot be read back.
        """
        while (used := self._read_from(position)) is not None:
            end = 0
            for offset, payload in frames(used, self._marker):
                yield from decode_payload(payload)
                end = end_of(offset, payload)
            if end != len(used):
                raise bad_inside(self.path, position + end)
            position += end
        self._read_to = position

    def reset(self) -> None:
        """Empty the journal, durably; call it when all that `records` yielded is durable elsewhere.

        Raises JournalError, and keeps all, unless `records` was exhausted after the last append. Raises
        JournalClosedError if it fails, or an append did.
        """
        with self._lock:
            self._check_replayed()
            if self.used_bytes:
                with self._failing():
                    os.ftruncate(self._file, FIRST_FRAME)
                    os.posix_fallocate(self._file, 0, self._size)
                    os.fsync(self._file)
            self._end = self._read_to = FIRST_FRAME
            self._full = False

    def remove(self) -> None:
        """Delete the file of a process that is gone, and close it; raises like `reset`."""
        with self._lock:
            self._check_replayed()
            with self._failing():
                self.path.unlink()
                sync_folder(self.path)
        self.close()

    def close(self) -> None:
        """Release the file and its lock; the records stay in it."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            # The number may be given to another file at once.
            self._file = -1
            self._failure = "is closed"

    def _read_from(self, position: int) -> bytes | None:
        with self._lock, naming(self.path):
            return read_at(self._file, position, self._end - position) if position < self._end else None

    def _check_open(self) -> None:
        if self.closed:
            raise JournalClosedError(self.path, self._failure or _FULL)

    def _check_replayed(self) -> None:
        if self._failure:
            raise JournalClosedError(self.path, self._failure)
        if self._read_to != self._end:
            raise JournalError(self.path, "holds records that were not read: it is not emptied")

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Close the journal for good on an OSError: what the disk has is unknown, and a second sync may lie."""
        try:
            yield
        except OSError as error:
            self._failure = f"failed, and takes no more: {error}"
            raise JournalClosedError(self.path, self._failure) from error


def open_journal(path: Path, *, owner: str, size: int) -> Journal:
    """Open the journal for this process alone, created with `size` bytes reserved (at most LARGEST) if it is missing.

    The name ends with SUFFIX; `owner` (at most 255 bytes) is recorded in a new file, an old one keeps its own. Raises
    JournalInUseError, or JournalError: for a bad record inside, with its offset; for a symbolic link; for a full disk.
    """
    if path.suffix != SUFFIX or not FIRST_FRAME < size <= LARGEST or len(owner.encode()) > LONGEST_OWNER:
        raise ValueError(path, owner, size)
    with naming(path):
        file = open_locked(path, os.O_CREAT)
        try:
            return _recover(path, file, owner, size)
        except BaseException:
            os.close(file)
            raise


def journals_in(folder: Path) -> list[Path]:
    """Return the journals in a folder, by name."""
    with naming(folder), os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.name.endswith(SUFFIX) and _is_plain(entry))


def leftovers(folder: Path) -> list[Path]:
    """Return the journals in a folder that no process has open, by name; another may open one before you do."""
    with naming(folder):
        return [path for path in journals_in(folder) if _is_free(path)]


def held_by_others(folder: Path, own: Path) -> bool:
    """Return whether other processes have journals open in a folder that hold records, or are about to be looked at."""
    with naming(folder):
        return any(path != own and not _is_free(path) and _holds_any(path) for path in journals_in(folder))


def _recover(path: Path, file: int, owner: str, size: int) -> Journal:
    data = read_at(file, 0, os.fstat(file).st_size)
    header = decode_header(path, data) or _new_header(path, data, owner)
    extent = extent_of(path, data, header.marker)
    if extent.torn_bytes:
        os.ftruncate(file, extent.end)
    os.posix_fallocate(file, 0, size)
    write_at(file, 0, encode_header(header))
    write_at(file, extent.last, data[extent.last : extent.end])
    os.fsync(file)
    sync_folder(path)
    return Journal(path, file, header, extent, os.fstat(file).st_size)


def _new_header(path: Path, data: bytes, owner: str) -> Header:
    # Zeros alone are a creation that did not complete: the header is synced before the first append.
    if written(data):
        raise bad_header(path)
    return Header(owner, os.urandom(MARKER_SIZE))


def open_locked(path: Path, flags: int = 0) -> int:
    """Open a file and lock it; raises JournalInUseError if another has it, and OSError for a symbolic link."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | flags, 0o600)
        try:
            _lock(path, file)
            if _has_name(path, file):
                return file
        except BaseException:
            os.close(file)
            raise
        # It was removed or replaced between our opening and locking it.
        os.close(file)


def _lock(path: Path, file: int) -> None:
    for _ in range(_LOCK_TRIES):
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE_S)
    raise JournalInUseError(path, "is in use: another process has it open")


def _has_name(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _is_plain(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False)


def _is_free(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return lock_shared(file.fileno())
    except FileNotFoundError:
        return False


def _holds_any(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return written(read_at(file.fileno(), FIRST_FRAME, MARKER_SIZE)) > 0
    except FileNotFoundError:
        return False


def lock_shared(file: int) -> bool:
    """Keep others from opening a journal that is only looked at; return False if somebody has it open."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raise an OSError as a JournalError that names the file."""
    try:
        yield
    except OSError as error:
        raise JournalError(path, f"cannot be used: {error}") from error


def read_at(file: int, offset: int, length: int) -> bytes:
    """Return the bytes at an offset, fewer only where the file ends."""
    parts: list[bytes] = []
    while length > 0 and (part := os.pread(file, length, offset)):
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)


def write_at(file: int, offset: int, data: bytes) -> None:
    """Write all at an offset, or raise OSError."""
    if os.pwrite(file, data, offset) != len(data):
        raise OSError(errno.EIO, "the disk took a part only")


def sync_folder(path: Path) -> None:
    """Make durable which file has the name."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
