"""What a journal has after crashes and failures: cut or spoilt files, refused writes and killed processes."""

import errno
import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sovren_edge.gateway.ledger.frames import FIRST_FRAME, JournalError
from sovren_edge.gateway.ledger.journal import JournalClosedError
from tests.gateway.journals import GROUPS, RECORDS, SECTOR, SIZE, child, filled, flip, line_of, opened, spoil, stored

APPENDER = """
import sys
from pathlib import Path
from sovren_edge.gateway.ledger.journal import open_journal

journal = open_journal(Path(sys.argv[1]), owner="child", size=1 << 24)
number = int(sys.argv[2])
while True:
    journal.append([b"%d.%d " % (number, part) + bytes(part * 300) for part in range(5)])
    print(number, flush=True)
    number += 1
"""

RESETTER = """
import sys
from pathlib import Path
from sovren_edge.gateway.ledger.journal import open_journal

journal = open_journal(Path(sys.argv[1]), owner="child", size=1 << 20)
print("open", flush=True)
while True:
    for group in range(3):
        journal.append([b"%d" % group])
    list(journal.records())
    journal.reset()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal under test is."""
    return tmp_path / "edge.journal"


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Let the kernel refuse to write behind an offset."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("left", [b"", b"\0" * 100, b"\0" * SIZE])
def test_a_creation_that_did_not_complete_is_done_again(path: Path, left: bytes) -> None:
    """The file was made, or its space reserved, but no header was written."""
    path.write_bytes(left)
    with opened(path) as journal:
        assert (list(journal.records()), journal.torn_bytes) == ([], 0)
        journal.append([b"works"])
    assert stored(path) == [b"works"]


def test_opening_makes_durable_what_it_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last group may be in memory alone: it is written again and synced before any other follows it."""
    *_, begin, end = filled(path)
    calls: list[tuple[int, ...]] = []
    write, sync = os.pwrite, os.fsync

    def seen_write(file: int, data: bytes, offset: int) -> int:
        calls.append((offset, len(data)))
        return write(file, data, offset)

    def seen_sync(file: int) -> None:
        calls.append(())
        sync(file)

    monkeypatch.setattr(os, "pwrite", seen_write)
    monkeypatch.setattr(os, "fsync", seen_sync)
    with opened(path) as journal:
        assert calls[:3] == [(0, FIRST_FRAME), (begin, end - begin), ()]
        assert list(journal.records()) == RECORDS


def test_a_tail_torn_at_any_byte_is_cut_and_counted(path: Path) -> None:
    """All before it stay, nothing of it does, and the next append takes its place."""
    *_, begin, end = filled(path)
    whole = path.read_bytes()
    for cut in range(begin, end):
        path.write_bytes(whole[:cut] + bytes(SIZE - cut))
        with opened(path) as journal:
            assert list(journal.records()) == RECORDS[:3]
            # Zeros that were to be written cannot be told from those that stood there.
            assert journal.torn_bytes == len(whole[begin:cut].rstrip(b"\0"))
            journal.append([b"next"])
            assert list(journal.records()) == [*RECORDS[:3], b"next"]
        assert not path.read_bytes()[begin + 24 :].strip(b"\0")


def test_a_file_that_ends_at_any_byte_of_its_last_group_is_a_torn_tail(path: Path) -> None:
    """As on a file system that lost its new length."""
    *_, begin, end = filled(path)
    whole = path.read_bytes()
    for cut in range(begin, end, 7):
        path.write_bytes(whole[:cut])
        assert stored(path) == RECORDS[:3]
        assert path.stat().st_size == SIZE


def test_a_tail_without_its_beginning_is_cut(path: Path) -> None:
    """Pages reach the disk in any order, so zeros may stand before what was written."""
    *_, begin, end = filled(path)
    whole = path.read_bytes()
    # A hole as long as the marker, at least: any byte of it may happen to be zero.
    for hole in range(8, end - begin):
        path.write_bytes(whole[:begin] + bytes(hole) + whole[begin + hole :])
        with opened(path) as journal:
            assert (list(journal.records()), journal.torn_bytes) == (RECORDS[:3], end - begin)
        assert not path.read_bytes()[begin:].strip(b"\0")


def test_any_sectors_of_the_last_group_may_be_missing(path: Path) -> None:
    """The group is there as a whole or not at all."""
    chance = random.Random(8300)
    large = [chance.randbytes(chance.randrange(1, 900)) for _ in range(14)]
    *_, begin, end = filled(path, [*GROUPS, large])
    whole = path.read_bytes()
    sectors = range(begin // SECTOR, (end - 1) // SECTOR + 1)
    for _ in range(200):
        missing = chance.sample(sectors, chance.randrange(1, len(sectors) + 1))
        torn = bytearray(whole)
        for sector in missing:
            torn[max(begin, sector * SECTOR) : (sector + 1) * SECTOR] = bytes(
                (sector + 1) * SECTOR - max(begin, sector * SECTOR)
            )
        path.write_bytes(torn)
        with opened(path) as journal:
            assert list(journal.records()) == RECORDS
            assert bool(journal.torn_bytes) == (len(missing) < len(sectors))


def test_a_bad_byte_inside_stops_the_opening_with_its_offset(path: Path) -> None:
    """Wherever it is, and in the marker, the length, the CRC or a record; the file stays as it is."""
    begin, *_, last, _ = ends = filled(path)
    whole = path.read_bytes()
    for offset in range(begin, last):
        path.write_bytes(whole)
        flip(path, offset)
        spoilt = path.read_bytes()
        with pytest.raises(JournalError, match="bad record") as found:
            opened(path)
        assert found.value.offset == max(start for start in ends if start <= offset)
        assert (found.value.path, path.read_bytes()) == (path, spoilt)


def test_zeros_inside_stop_the_opening(path: Path) -> None:
    """An end before the end is a lost write, not an end."""
    first, second, third, _ = filled(path)
    spoil(path, first, bytes(second - first))
    with pytest.raises(JournalError, match="bad record"):
        opened(path)
    spoil(path, second, bytes(third - second))
    with pytest.raises(JournalError, match=f"offset {FIRST_FRAME}"):
        opened(path)


def test_a_bad_group_before_a_torn_one_stops_the_opening(path: Path) -> None:
    """A group that was begun behind it proves that it was acknowledged, even if that one is not valid."""
    _, _, third, end = filled(path)
    flip(path, third - 1)
    flip(path, end - 1)
    with pytest.raises(JournalError, match="bad record"):
        opened(path)


def test_a_record_cannot_pose_as_a_group(path: Path) -> None:
    """A journal inside a torn record is that record's bytes."""
    other = path.with_name("other.journal")
    filled(other)
    *_, begin, _ = filled(path, [[b"mine"], [other.read_bytes()[:5000]]])
    flip(path, begin + 20)
    torn_bytes = len(path.read_bytes().rstrip(b"\0")) - begin
    with opened(path) as journal:
        assert (list(journal.records()), journal.torn_bytes) == ([b"mine"], torn_bytes)


def test_a_failed_sync_closes_the_journal_for_good(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was acknowledged can still be read; nothing tries to sync again."""
    syncs: list[int] = []

    def fail(file: int) -> None:
        syncs.append(file)
        raise OSError(errno.EIO, "the disk is gone")

    with opened(path) as journal:
        journal.append([b"kept"])
        monkeypatch.setattr(os, "fdatasync", fail)
        for _ in range(3):
            with pytest.raises(JournalClosedError, match="the disk is gone"):
                journal.append([b"unknown"])
        assert (list(journal.records()), len(syncs)) == ([b"kept"], 1)
        with pytest.raises(JournalClosedError, match="the disk is gone"):
            journal.reset()
        monkeypatch.undo()
        with pytest.raises(JournalClosedError, match="the disk is gone"):
            journal.append([b"late"])
    assert stored(path) in ([b"kept"], [b"kept", b"unknown"])


@pytest.mark.parametrize("room", [0, 17, 700])
def test_a_failed_or_short_write_closes_the_journal_for_good(path: Path, room: int) -> None:
    """Refused by the kernel itself; what it did write is a torn tail."""
    with opened(path) as journal:
        journal.append([b"kept"])
        with no_file_beyond(FIRST_FRAME + journal.used_bytes + room), pytest.raises(JournalClosedError):
            journal.append([b"x" * 900])
        with pytest.raises(JournalClosedError):
            journal.append([b"late"])
    with opened(path) as journal:
        assert (list(journal.records()), journal.torn_bytes) == ([b"kept"], room)


def test_a_failed_reset_closes_the_journal_for_good(path: Path) -> None:
    """The space was given up and is not had again."""
    with opened(path) as journal:
        journal.append([b"replayed"])
        assert list(journal.records()) == [b"replayed"]
        with no_file_beyond(FIRST_FRAME), pytest.raises(JournalClosedError, match="failed"):
            journal.reset()
        with pytest.raises(JournalClosedError):
            journal.append([b"late"])
    assert stored(path) == []


def test_space_that_is_not_to_be_had_is_refused_at_the_start(path: Path) -> None:
    """And the same file opens once there is space."""
    with no_file_beyond(SIZE // 2), pytest.raises(JournalError, match="cannot be used"):
        opened(path)
    assert stored(path) == []


def test_records_spoilt_while_open_are_not_handed_out(path: Path) -> None:
    """Those before them are; and there is no reset."""
    with opened(path) as journal:
        for group in GROUPS:
            journal.append(group)
        flip(path, FIRST_FRAME + journal.used_bytes - 1)
        reading = journal.records()
        assert [next(reading) for _ in range(3)] == RECORDS[:3]
        with pytest.raises(JournalError, match="bad record"):
            next(reading)
        with pytest.raises(JournalError, match="not read"):
            journal.reset()


def test_a_crash_within_a_reset_leaves_a_beginning(path: Path) -> None:
    """Whatever length the file system kept, it opens, with the first groups in order."""
    ends = filled(path)
    whole = path.read_bytes()
    for length in range(FIRST_FRAME, ends[-1] + 1):
        path.write_bytes(whole[:length])
        groups = sum(end <= length for end in ends[1:])
        assert stored(path) == [record for group in GROUPS[:groups] for record in group]


def test_a_killed_process_loses_no_acknowledged_record(path: Path) -> None:
    """Killed twenty times at any instant; each next one goes on behind what stands there."""
    chance = random.Random(7)
    told = -1
    for _ in range(20):
        with child(APPENDER, path, told + 1) as appender:
            told = int(line_of(appender))
            time.sleep(chance.random() * 0.05)
            appender.send_signal(signal.SIGKILL)
            assert appender.stdout
            told = max([told, *map(int, appender.stdout.read().splitlines())])
        with opened(path, 1 << 24) as journal:
            numbers = [record.split()[0] for record in whole_groups(list(journal.records()))]
            assert numbers == [b"%d.%d" % (group, part) for group in range(len(numbers) // 5) for part in range(5)]
            # The last group may be on disk though nobody was told.
            assert len(numbers) // 5 in (told + 1, told + 2)
            told = len(numbers) // 5 - 1


def whole_groups(records: list[bytes]) -> list[bytes]:
    """Return the records, each as its writer wrote it."""
    for record in records:
        name, _, rest = record.partition(b" ")
        assert rest == bytes(int(name.split(b".")[1]) * 300)
    return records


def test_a_process_killed_while_it_resets_leaves_a_beginning_of_its_groups(path: Path) -> None:
    """At any instant of filling and emptying."""
    chance = random.Random(11)
    for _ in range(10):
        with child(RESETTER, path) as resetter:
            assert line_of(resetter) == b"open\n"
            time.sleep(chance.random() * 0.05)
            resetter.send_signal(signal.SIGKILL)
        with opened(path, 1 << 20) as journal:
            found = list(journal.records())
            assert found in ([], [b"0"], [b"0", b"1"], [b"0", b"1", b"2"])
            journal.reset()
