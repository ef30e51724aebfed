"""The journal on real files: what it keeps, to whom it opens, and when it is emptied."""

import fcntl
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovren_edge.gateway.ledger.frames import FIRST_FRAME, JournalError
from sovren_edge.gateway.ledger.journal import (
    LARGEST,
    JournalClosedError,
    JournalFullError,
    JournalInUseError,
    leftovers,
    open_journal,
)
from sovren_edge.gateway.ledger.repair import repair
from tests.gateway.journals import GROUPS, RECORDS, SECTOR, SIZE, child, filled, flip, line_of, opened, spoil, stored

HOLDER = """
import sys
from pathlib import Path
from sovren_edge.gateway.ledger.journal import open_journal

with open_journal(Path(sys.argv[1]), owner="child", size=1 << 20) as journal:
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal under test is."""
    return tmp_path / "edge.journal"


def test_what_is_appended_is_read_in_order_and_again_after_reopening(path: Path) -> None:
    """Empty records and records of zeros too; a group of nothing changes nothing."""
    with opened(path) as journal:
        assert (list(journal.records()), journal.used_bytes, journal.torn_bytes) == ([], 0, 0)
        for group in GROUPS:
            journal.append(group)
        assert list(journal.records()) == RECORDS
    with opened(path) as journal:
        assert (list(journal.records()), journal.torn_bytes, journal.owner) == (RECORDS, 0, "edge-1/boot")
        journal.append([])
        journal.append([b"more"])
    assert stored(path) == [*RECORDS, b"more"]


@settings(max_examples=60)
@given(st.lists(st.lists(st.binary(max_size=300), max_size=6), max_size=8), st.integers(0, 8))
def test_any_records_survive_any_number_of_openings(groups: list[list[bytes]], closed_after: int) -> None:
    """Whatever their bytes, and wherever the journal is closed and opened between."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.journal"
        for part in (groups[:closed_after], groups[closed_after:]):
            with opened(path, 1 << 17) as journal:
                for group in part:
                    journal.append(group)
        assert stored(path) == [record for group in groups for record in group]


def test_reading_goes_on_to_what_is_appended_meanwhile(path: Path) -> None:
    """One pass sees all, so that it can be followed by a reset."""
    with opened(path) as journal:
        journal.append([b"1", b"2"])
        reading = journal.records()
        assert next(reading) == b"1"
        journal.append([b"3"])
        assert list(reading) == [b"2", b"3"]
        journal.reset()
        assert list(journal.records()) == []


def test_the_file_is_private_and_its_space_is_reserved(path: Path) -> None:
    """Whatever the umask; blocks are there before the first record is."""
    before = os.umask(0)
    try:
        opened(path).close()
    finally:
        os.umask(before)
    status = path.stat()
    assert (status.st_mode & 0o777, status.st_size) == (0o600, SIZE)
    assert status.st_blocks * SECTOR >= SIZE


def test_the_first_owner_stays_recorded(path: Path) -> None:
    """So that whoever replays a leftover knows whose it was."""
    filled(path)
    with open_journal(path, owner="edge-2/boot", size=SIZE) as journal:
        assert journal.owner == "edge-1/boot"


def test_a_larger_size_is_reserved_on_opening_and_a_smaller_one_is_not(path: Path) -> None:
    """Records are never cut off by a setting."""
    filled(path)
    with opened(path, 2 * SIZE) as journal:
        assert journal.free_bytes == 2 * SIZE - FIRST_FRAME - journal.used_bytes
    with opened(path, FIRST_FRAME + 1) as journal:
        assert list(journal.records()) == RECORDS
        assert journal.free_bytes > SIZE


@pytest.mark.parametrize("size", [0, FIRST_FRAME, LARGEST + 1])
def test_sizes_without_sense_are_refused(path: Path, size: int) -> None:
    """Before a file is made."""
    with pytest.raises(ValueError, match=str(size)):
        opened(path, size)
    assert not path.exists()


def test_names_and_owners_without_sense_are_refused(path: Path) -> None:
    """A name without the suffix would not be found as a leftover."""
    with pytest.raises(ValueError, match="log"):
        opened(path.with_suffix(".log"))
    with pytest.raises(ValueError, match="ooo"):
        open_journal(path, owner="o" * 256, size=SIZE)
    with open_journal(path, owner="o" * 255, size=SIZE) as journal:
        assert journal.owner == "o" * 255


def test_a_symbolic_link_is_refused(path: Path) -> None:
    """Whether or not it leads to a journal."""
    filled(path)
    link = path.with_name("link.journal")
    for target in (path, path.with_name("absent.journal")):
        link.symlink_to(target)
        with pytest.raises(JournalError, match=r"link\.journal"):
            opened(link)
        link.unlink()
    assert not path.with_name("absent.journal").exists()


def test_a_second_opener_is_refused(path: Path) -> None:
    """In another process or in this one, until the first has closed."""
    with child(HOLDER, path) as holder:
        assert line_of(holder) == b"open\n"
        with pytest.raises(JournalInUseError, match="in use"):
            opened(path)
        with pytest.raises(JournalInUseError):
            repair(path)
    with opened(path), pytest.raises(JournalInUseError):
        opened(path)


def test_an_opener_waits_for_whoever_only_looks(path: Path) -> None:
    """Listing the leftovers holds each lock for a moment, and stops nobody's start."""
    filled(path)
    with path.open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        timer = threading.Timer(0.05, fcntl.flock, (looking, fcntl.LOCK_UN))
        timer.start()
        assert stored(path) == RECORDS
        timer.join()


@pytest.mark.parametrize("foreign", [b"not a journal", b"\0" * FIRST_FRAME + b"x"])
def test_a_foreign_file_is_left_alone(path: Path, foreign: bytes) -> None:
    """A wrong path in a configuration costs nobody his file."""
    path.write_bytes(foreign)
    with pytest.raises(JournalError, match="header") as found:
        opened(path)
    assert (found.value.offset, path.read_bytes()) == (0, foreign)


def test_a_file_of_another_version_is_refused(path: Path) -> None:
    """The CRC is that of version 2's own writer."""
    filled(path)
    header = bytearray(path.read_bytes()[:276])
    header[8] = 2
    spoil(path, 0, bytes(header) + crc32_of(bytes(header)))
    with pytest.raises(JournalError, match="version 2"):
        opened(path)
    with pytest.raises(JournalError, match="version 2"):
        repair(path)


def crc32_of(data: bytes) -> bytes:
    """Compute it as the format says: by zlib's polynomial, little-endian."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)  # noqa: PLW2901
        table.append(value)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return (crc ^ 0xFFFFFFFF).to_bytes(4, "little")


def test_the_format_is_the_one_described(path: Path) -> None:
    """Read here by hand, from the description alone."""
    ends = filled(path, [[b"ab", b"c"]])
    data = path.read_bytes()
    assert (data[:8], data[8:12], data[20:32]) == (b"SOVRNJNL", b"\1\0\0\0", b"\x0bedge-1/boot")
    assert data[276:280] == crc32_of(data[:276])
    payload = b"\2\0\0\0ab\1\0\0\0c"
    head = data[12:20] + len(payload).to_bytes(4, "little")
    assert data[FIRST_FRAME : ends[-1]] == head + crc32_of(head + payload) + payload
    assert not data[280:FIRST_FRAME].strip(b"\0")
    assert not data[ends[-1] :].strip(b"\0")


def test_threads_may_append_at_once(path: Path) -> None:
    """Groups stay whole, and each thread's own stay in order."""

    def append_some(name: int) -> None:
        for number in range(20):
            journal.append([b"%d" % name, b"%d" % number])

    with opened(path) as journal, ThreadPoolExecutor() as threads:
        list(threads.map(append_some, range(4)))
    records = stored(path)
    groups = list(zip(records[::2], records[1::2], strict=True))
    for name in range(4):
        assert [number for who, number in groups if who == b"%d" % name] == [b"%d" % number for number in range(20)]


def test_a_full_journal_is_closed_until_it_was_replayed(path: Path) -> None:
    """Smaller groups do not pass it; nothing of the refused group is written."""
    with opened(path) as journal:
        journal.append([b"kept"])
        with pytest.raises(JournalFullError, match="full"):
            journal.append([bytes(SIZE)])
        with pytest.raises(JournalClosedError, match="full"):
            journal.append([b"small"])
        assert list(journal.records()) == [b"kept"]
        journal.reset()
        journal.append([b"again"])
    assert stored(path) == [b"again"]


def test_the_last_byte_of_the_space_can_be_used(path: Path) -> None:
    """And no more than it."""
    with opened(path) as journal:
        journal.append([bytes(journal.free_bytes - 21)])
        with pytest.raises(JournalFullError):
            journal.append([b""])
    with opened(path) as journal:
        assert (len(list(journal.records())), journal.free_bytes) == (1, 1)
        journal.reset()
        journal.append([bytes(journal.free_bytes - 20)])
        assert journal.free_bytes == 0
    assert stored(path) == [bytes(SIZE - FIRST_FRAME - 20)]


def test_a_closed_journal_takes_nothing(path: Path) -> None:
    """Closing twice is closing once."""
    journal = opened(path)
    journal.append([b"kept"])
    journal.close()
    journal.close()
    with pytest.raises(JournalClosedError, match="is closed"):
        journal.append([b"late"])
    with pytest.raises(JournalClosedError, match="is closed"):
        journal.reset()
    with pytest.raises(JournalError):
        list(journal.records())
    assert stored(path) == [b"kept"]


def test_a_reset_is_refused_while_records_were_not_read(path: Path) -> None:
    """Neither those that nobody read, nor those that came after the reading, can be lost."""
    with opened(path) as journal:
        journal.append([b"1"])
        with pytest.raises(JournalError, match="not read"):
            journal.reset()
        assert list(journal.records()) == [b"1"]
        journal.append([b"2"])
        with pytest.raises(JournalError, match="not read"):
            journal.reset()
        with pytest.raises(JournalError, match="not read"):
            journal.remove()
    assert stored(path) == [b"1", b"2"]


def test_a_reset_leaves_zeros_and_all_of_the_space(path: Path) -> None:
    """And what is written afterwards is what is there after a crash."""
    filled(path)
    with opened(path) as journal:
        list(journal.records())
        journal.reset()
        assert journal.used_bytes == 0
        assert not path.read_bytes()[FIRST_FRAME:].strip(b"\0")
        assert (path.stat().st_size, path.stat().st_blocks * SECTOR >= SIZE) == (SIZE, True)
        journal.append([b"after"])
    assert stored(path) == [b"after"]


def test_leftovers_are_those_that_nobody_has_open(tmp_path: Path) -> None:
    """Other files, links and folders are none."""
    for name in ("b", "a", "mine"):
        filled(tmp_path / f"{name}.journal")
    filled(tmp_path / "broken.journal")
    flip(tmp_path / "broken.journal", 0)
    repair(tmp_path / "broken.journal")
    (tmp_path / "link.journal").symlink_to(tmp_path / "a.journal")
    (tmp_path / "folder.journal").mkdir()
    os.mkfifo(tmp_path / "fifo.journal")
    with opened(tmp_path / "mine.journal"), child(HOLDER, tmp_path / "held.journal") as holder:
        assert line_of(holder) == b"open\n"
        assert [path.name for path in leftovers(tmp_path)] == ["a.journal", "b.journal", "broken.journal"]
    assert len(leftovers(tmp_path)) == 5
    with pytest.raises(JournalError, match="No such file"):
        leftovers(tmp_path / "absent")


def test_a_leftover_is_replayed_and_removed(path: Path) -> None:
    """Its owner is known."""
    filled(path)
    with open_journal(leftovers(path.parent)[0], owner="edge-2", size=SIZE) as journal:
        assert (list(journal.records()), journal.owner) == (RECORDS, "edge-1/boot")
        journal.remove()
        with pytest.raises(JournalClosedError):
            journal.append([b"late"])
    assert not path.exists()
    assert stored(path) == []


def test_who_waited_for_a_file_that_was_removed_gets_a_new_one(path: Path) -> None:
    """And not the lock of one that has no name."""
    filled(path)
    journal = opened(path)
    list(journal.records())
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(opened, path)
        time.sleep(0.05)
        journal.remove()
        with waiting.result() as new:
            new.append([b"new"])
    assert stored(path) == [b"new"]
