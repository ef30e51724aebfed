"""Journals to test with: filled, spoilt, and held by other processes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sovren_edge.gateway.ledger.frames import FIRST_FRAME
from sovren_edge.gateway.ledger.journal import Journal, open_journal

SIZE = 16384
SECTOR = 512
GROUPS = [[b"first", b""], [b"second"], [b"\0\0\0", b"third" * 20]]
RECORDS = [record for group in GROUPS for record in group]


def opened(path: Path, size: int = SIZE) -> Journal:
    """Open with this file's owner and size."""
    return open_journal(path, owner="edge-1/boot", size=size)


def filled(path: Path, groups: list[list[bytes]] = GROUPS) -> list[int]:
    """Append the groups, close, and return where each begins and where the last ends."""
    with opened(path) as journal:
        ends = [FIRST_FRAME]
        for group in groups:
            journal.append(group)
            ends.append(FIRST_FRAME + journal.used_bytes)
    return ends


def stored(path: Path) -> list[bytes]:
    """Open and read all."""
    with opened(path) as journal:
        return list(journal.records())


def spoil(path: Path, offset: int, data: bytes) -> None:
    """Overwrite a part of the closed file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path: Path, offset: int) -> None:
    """Change every bit of one byte of the closed file."""
    spoil(path, offset, bytes([path.read_bytes()[offset] ^ 0xFF]))


@contextmanager
def child(code: str, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run code in a process that ends with the block."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[bytes]) -> bytes:
    """Wait for a line that a child prints."""
    assert process.stdout
    return process.stdout.readline()
