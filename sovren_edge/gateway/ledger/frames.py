"""Owns the format of a journal: how groups of records become bytes, and which bytes of a file are groups again.

Must not know how a file is opened, locked or written, or what a record means. All is computed from bytes in memory.

A file is a header, frames, and zeros up to its reserved size. Numbers are little-endian, a CRC is CRC-32:

    header   magic 8s, version u32, marker 8s, owner 256p, CRC u32 of these; never changed; frames begin at 4096
    frame    marker 8s, length u32, CRC u32 of these and the payload; then the payload, of that length
    payload  the records of one group, each a length u32 and its bytes

One append writes one frame and waits for fdatasync, and none is begun before the one ahead of it is on disk, since any
failure closes the journal. So a crash harms one frame at most: the last one, which nobody was told is safe. Its sectors
may be there or missing in any combination, and its CRC spans them all: it is valid as a whole or not at all.

The marker is random, drawn for each file and known to nobody else, so no caller can bring it in by a record: it stands
where a frame begins and nowhere else. Where a frame is not valid, or zeros stand instead, the marker decides. Found
anywhere behind, a later frame was begun, hence this one had been acknowledged: it is a bad record inside, and opening
stops. Not found, what stands here is a torn tail, and is cut and counted. (An acknowledged last frame that the disk
spoilt later looks the same, and is counted too.)
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FIRST_FRAME = 4096
LONGEST_OWNER = 255
MARKER_SIZE = 8

_MAGIC = b"SOVRNJNL"
_VERSION = 1
_HEADER = struct.Struct("<8sI8s256p")
_FRAME = struct.Struct("<8sII")
_U32 = struct.Struct("<I")
_MARKER = slice(12, 12 + MARKER_SIZE)


class JournalError(Exception):
    """A journal cannot be used as it stands; the message names its file and is for the operator.

    `offset` is in bytes from the file's beginning, and set where the bytes there are at fault.
    """

    def __init__(self, path: Path, fault: str, offset: int | None = None) -> None:
        super().__init__(f"journal {path} {fault}")
        self.path = path
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself: who made it, and what stands before each of its frames."""

    owner: str
    marker: bytes


@dataclass(frozen=True, slots=True)
class Extent:
    """Where the last frame begins, where it ends, and how many torn bytes follow."""

    last: int
    end: int
    torn_bytes: int


def encode_header(header: Header) -> bytes:
    """Return the header's bytes, with the zeros up to the first frame."""
    packed = _HEADER.pack(_MAGIC, _VERSION, header.marker, header.owner.encode())
    return (packed + _U32.pack(zlib.crc32(packed))).ljust(FIRST_FRAME, b"\0")


def decode_header(path: Path, data: bytes) -> Header | None:
    """Return the header, None if it is damaged, and raise JournalError if it is of another version."""
    packed, crc = data[: _HEADER.size], data[_HEADER.size : _HEADER.size + _U32.size]
    if crc != _U32.pack(zlib.crc32(packed)) or not packed.startswith(_MAGIC):
        return None
    _, version, marker, owner = _HEADER.unpack(packed)
    if version != _VERSION:
        raise JournalError(path, f"is of version {version}; this program knows {_VERSION}", 0)
    return Header(owner.decode(), marker)


def likely_markers(data: bytes) -> list[bytes]:
    """Return what may be the marker of a file without a header: what stands in its place or before the first frame."""
    return [data[_MARKER], data[FIRST_FRAME : FIRST_FRAME + MARKER_SIZE]]


def encode_frame(marker: bytes, records: Sequence[bytes]) -> bytes:
    """Return the frame of one group."""
    payload = b"".join(part for record in records for part in (_U32.pack(len(record)), record))
    return _FRAME.pack(marker, len(payload), _frame_crc(marker, payload)) + payload


def _frame_crc(marker: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(marker + _U32.pack(len(payload))))


def end_of(offset: int, payload: bytes) -> int:
    """Return where the frame that begins at an offset ends."""
    return offset + _FRAME.size + len(payload)


def _decode_frame(data: bytes, offset: int, marker: bytes) -> bytes | None:
    """Return the payload of the frame at an offset, None if there is no valid one."""
    head = data[offset : offset + _FRAME.size]
    if len(head) < _FRAME.size or not head.startswith(marker):
        return None
    _, length, crc = _FRAME.unpack(head)
    payload = data[offset + _FRAME.size : offset + _FRAME.size + length]
    return payload if len(payload) == length and _frame_crc(marker, payload) == crc else None


def decode_payload(payload: bytes) -> Iterator[bytes]:
    """Yield the records of a group."""
    offset = 0
    while offset < len(payload):
        begin = offset + _U32.size
        (length,) = _U32.unpack_from(payload, offset)
        offset = begin + length
        yield payload[begin:offset]


def frames(data: bytes, marker: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield offset and payload of each frame up to the first place where no valid one begins."""
    while (payload := _decode_frame(data, offset, marker)) is not None:
        yield offset, payload
        offset = end_of(offset, payload)


def all_frames(data: bytes, marker: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield offset and payload of each valid frame, wherever it begins."""
    offset = data.find(marker, FIRST_FRAME)
    while offset >= 0:
        payload = _decode_frame(data, offset, marker)
        if payload is not None:
            yield offset, payload
        offset = data.find(marker, offset + 1 if payload is None else end_of(offset, payload))


def extent_of(path: Path, data: bytes, marker: bytes) -> Extent:
    """Return which bytes are frames, or raise JournalError for a bad one that others follow."""
    last = end = FIRST_FRAME
    for offset, payload in frames(data, marker, FIRST_FRAME):
        last, end = offset, end_of(offset, payload)
    if data.find(marker, end + 1) >= 0:
        raise bad_inside(path, end)
    return Extent(last, end, max(0, written(data) - end))


def written(data: bytes) -> int:
    """Return how many bytes stand before the zeros at the end."""
    return len(data.rstrip(b"\0"))


def bad_header(path: Path) -> JournalError:
    """Return the error for a file that has a beginning, but not that of a journal."""
    return JournalError(path, "has no valid header: see `sovren-edge ledger repair`", 0)


def bad_inside(path: Path, offset: int) -> JournalError:
    """Return the error for an acknowledged frame that is not valid."""
    return JournalError(path, f"has a bad record at offset {offset}: see `sovren-edge ledger repair`", offset)


def gaps_between(found: Sequence[tuple[int, bytes]], begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield (offset, bytes) of all that is not a frame, from `begin` to `end`."""
    for offset, payload in found:
        if begin < offset:
            yield begin, offset - begin
        begin = end_of(offset, payload)
    if begin < end:
        yield begin, end - begin
