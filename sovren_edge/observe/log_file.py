"""Owns where log lines go: a file that several processes append to, or what standard error is.

Lines arrive whole or not at all, between the lines of others. Must not know what a line says, nor when it is written.
"""

import fcntl
import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sovren_edge.errors import StartupError

# What a pipe takes in one piece, whoever else writes into it (pipe(7)).
_PIPE_MOST, _FILE_MOST = select.PIPE_BUF, 1 << 20


class LogFile:
    """An open descriptor; with a path it is this object's own."""

    def __init__(self, descriptor: int, path: str = "") -> None:
        self._descriptor = descriptor
        self._path = path
        self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        # Whether what it ends with is less than a line.
        self._torn = False

    @property
    def most(self) -> int:
        """How many bytes are written at once, unless a single line has more."""
        return _FILE_MOST if self._regular else _PIPE_MOST

    @property
    def terminal(self) -> bool:
        """Whether a person reads it."""
        return not self._path and os.isatty(self._descriptor)

    def write(self, lines: bytes) -> None:
        """Append whole lines; raises OSError, and then they are lost."""
        if self._torn:
            lines = b"\n" + lines
        with self._alone():
            written = 0
            try:
                while written < len(lines):
                    written += os.write(self._descriptor, memoryview(lines)[written:])
            except OSError:
                self._torn |= written > 0 and not self._took_back(written)
                raise
        self._torn = False

    def opened_anew(self) -> "LogFile":
        """Return the file that the path leads to now; raises OSError. Standard error stays what it is."""
        return LogFile(_open(self._path), self._path) if self._path else self

    def close(self) -> None:
        """Let go of it; standard error stays open."""
        if self._path:
            os.close(self._descriptor)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from writing: what is taken back must be the last thing in the file."""
        if not (self._path and self._regular):
            yield
            return
        # Some network file systems know no locks; lines matter more.
        with suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _took_back(self, written: int) -> bool:
        """Remove what a full disk took of lines: the next one, whoever writes it, must not be glued to half a line."""
        if not (self._path and self._regular):
            return False
        try:
            os.ftruncate(self._descriptor, os.lseek(self._descriptor, 0, os.SEEK_CUR) - written)
        except OSError:
            return False
        return True


def open_log_file(path: str) -> LogFile:
    """Open the file at a path, or standard error without one; StartupError if it cannot be written to."""
    if not path:
        return LogFile(sys.stderr.fileno())
    try:
        return LogFile(_open(path), path)
    except OSError as error:
        raise StartupError(f"log.path: {path} cannot be written to: {error.strerror}") from None


def _open(path: str) -> int:
    # Addresses of callers stand in it: not for everybody to read.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
