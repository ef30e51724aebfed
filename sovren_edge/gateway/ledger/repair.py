"""Owns the repair of a journal: a new file with all valid groups of a bad one, which stays beside it.

Must not know what a record means. Blocks: use a thread.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sovren_edge.gateway.ledger.frames import (
    FIRST_FRAME,
    MARKER_SIZE,
    Header,
    JournalError,
    all_frames,
    decode_header,
    decode_payload,
    encode_frame,
    encode_header,
    gaps_between,
    likely_markers,
    written,
)
from sovren_edge.gateway.ledger.journal import naming, open_locked, read_at, sync_folder, write_at


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair kept and gave up: the number of records kept, and each gap as (offset, bytes) in the old file."""

    kept: int
    gaps: tuple[tuple[int, int], ...]

    @property
    def cut_at(self) -> int | None:
        """Offset of the first gap, or None if there was nothing to repair."""
        return self.gaps[0][0] if self.gaps else None

    @property
    def lost_bytes(self) -> int:
        """Bytes in all gaps."""
        return sum(length for _, length in self.gaps)

    @property
    def owner_lost(self) -> bool:
        """Whether the header was bad, which says whose journal it is."""
        return self.cut_at == 0


def repair(path: Path) -> Repaired:
    """Rewrite a journal with all valid groups, those behind a bad one too; the old file stays, as `<path>.bad`.

    Nothing is touched if nothing is bad. The owner is lost with a bad header. Raises JournalInUseError, or JournalError
    if a `.bad` file of an earlier repair is in the way.
    """
    with naming(path):
        file = open_locked(path)
        try:
            return _repair(path, read_at(file, 0, os.fstat(file).st_size))
        finally:
            os.close(file)


def _repair(path: Path, data: bytes) -> Repaired:
    header = decode_header(path, data)
    # Without a header, the marker is the one that most frames confirm.
    markers = [header.marker] if header else likely_markers(data)
    found = max((list(all_frames(data, marker)) for marker in markers if marker.strip(b"\0")), key=len, default=[])
    gaps = tuple(gaps_between(found, FIRST_FRAME if header else 0, written(data)))
    groups = [list(decode_payload(payload)) for _, payload in found]
    if gaps:
        _replace(path, header.owner if header else "", groups)
    return Repaired(sum(map(len, groups)), gaps)


def bad_path(path: Path) -> Path:
    """Return where a repair leaves the old file."""
    return path.with_name(f"{path.name}.bad")


def _replace(path: Path, owner: str, groups: Sequence[Sequence[bytes]]) -> None:
    """Put a new file in the place of the old; at any instant one of them is complete and has the name."""
    _keep(path)
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    header = Header(owner, os.urandom(MARKER_SIZE))
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if not os.geteuid():
            # Root repairs what another user's program must be able to open.
            os.fchown(file, path.stat().st_uid, path.stat().st_gid)
        write_at(file, 0, encode_header(header) + b"".join(encode_frame(header.marker, group) for group in groups))
        os.fsync(file)
    finally:
        os.close(file)
    new.rename(path)
    sync_folder(path)


def _keep(path: Path) -> None:
    bad = bad_path(path)
    try:
        bad.hardlink_to(path)
    except FileExistsError:
        # The same file: an earlier repair was interrupted.
        if not bad.samefile(path):
            raise JournalError(path, f"is not repaired: {bad} is in the way") from None
