"""Owns what can be told of journals without changing them: whose they are, what they hold, whether they can be opened.

A journal that a process has open is not judged: what stands at its end may be half written. Must not know what a record
means. Blocks: use a thread.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sovren_edge.gateway.ledger.frames import (
    FIRST_FRAME,
    Header,
    JournalError,
    bad_header,
    decode_header,
    decode_payload,
    end_of,
    extent_of,
    frames,
    written,
)
from sovren_edge.gateway.ledger.journal import journals_in, lock_shared, naming, read_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """One journal as it stands: `records` and `used_bytes` are of what comes before a fault, `why` is that fault."""

    path: Path
    owner: str = ""
    records: int = 0
    used_bytes: int = 0
    free_bytes: int = 0
    in_use: bool = False
    why: str = ""

    @property
    def bad(self) -> bool:
        """Whether it cannot be opened as it is."""
        return bool(self.why)


def inspect(path: Path) -> Inspected:
    """Look at one journal; raises JournalError if it cannot be read."""
    with naming(path):
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            free = lock_shared(file)
            return _inspected(path, read_at(file, 0, os.fstat(file).st_size), in_use=not free)
        finally:
            os.close(file)


def inspect_all(folder: Path) -> list[Inspected]:
    """Look at all journals in a folder, by name; raises JournalError if there is no such folder."""
    return [found for path in journals_in(folder) if (found := _inspected_or_gone(path)) is not None]


def _inspected_or_gone(path: Path) -> Inspected | None:
    try:
        return inspect(path)
    except JournalError as error:
        # One that was adopted after it was listed is no fault.
        return None if isinstance(error.__cause__, FileNotFoundError) else Inspected(path=path, why=str(error))


def _inspected(path: Path, data: bytes, *, in_use: bool) -> Inspected:
    header = _header(path, data)
    found = [] if header is None else list(frames(data, header.marker, FIRST_FRAME))
    end = end_of(*found[-1]) if found else FIRST_FRAME
    return Inspected(
        path=path,
        owner="" if header is None else header.owner,
        records=sum(1 for _, payload in found for _ in decode_payload(payload)),
        used_bytes=end - FIRST_FRAME,
        free_bytes=max(0, len(data) - end),
        in_use=in_use,
        why="" if in_use else _fault(path, data),
    )


def _header(path: Path, data: bytes) -> Header | None:
    with suppress(JournalError):
        return decode_header(path, data)
    return None


def _fault(path: Path, data: bytes) -> str:
    """Return why it cannot be opened; empty if it can."""
    try:
        header = decode_header(path, data)
        if header is not None:
            extent_of(path, data, header.marker)
        elif written(data):
            raise bad_header(path)
    except JournalError as error:
        return str(error)
    return ""
