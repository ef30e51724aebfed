"""Repair of real files, spoilt in one way each."""

from pathlib import Path

import pytest

from sovren_edge.gateway.ledger.frames import FIRST_FRAME, JournalError
from sovren_edge.gateway.ledger.repair import Repaired, repair
from tests.gateway.journals import GROUPS, RECORDS, filled, flip, opened, spoil, stored


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal under test is."""
    return tmp_path / "edge.journal"


def test_repair_keeps_what_is_valid_before_and_behind(path: Path) -> None:
    """The old file stays beside it, byte for byte."""
    first, second, third, end = filled(path)
    flip(path, second + 17)
    spoil(path, end + 100, b"torn")
    spoilt = path.read_bytes()
    repaired = repair(path)
    assert repaired == Repaired(4, ((second, third - second), (end, 104)))
    assert (repaired.cut_at, repaired.lost_bytes) == (second, third - second + 104)
    with opened(path) as journal:
        assert (list(journal.records()), journal.owner) == ([*GROUPS[0], *GROUPS[2]], "edge-1/boot")
        assert (journal.torn_bytes, journal.used_bytes) == (0, second - first + end - third)
    bad = path.with_name("edge.journal.bad")
    assert (bad.read_bytes(), path.stat().st_mode & 0o777) == (spoilt, 0o600)


def test_repair_leaves_a_good_journal_alone(path: Path) -> None:
    """No second file, no change."""
    filled(path)
    before = path.read_bytes()
    repaired = repair(path)
    assert (repaired, repaired.cut_at, repaired.lost_bytes) == (Repaired(len(RECORDS), ()), None, 0)
    assert (path.read_bytes(), [entry.name for entry in path.parent.iterdir()]) == (before, [path.name])


@pytest.mark.parametrize("offset", [0, 9, 12, 19, 25, 277])
def test_repair_works_without_a_header(path: Path, offset: int) -> None:
    """Its marker stands before each group too; its owner is lost."""
    filled(path)
    flip(path, offset)
    with pytest.raises(JournalError, match="header"):
        opened(path)
    assert repair(path) == Repaired(len(RECORDS), ((0, FIRST_FRAME),))
    with opened(path) as journal:
        assert (list(journal.records()), journal.owner) == (RECORDS, "")


def test_repair_works_without_a_header_s_crc_and_the_first_group(path: Path) -> None:
    """The marker in the bad header is tried as well."""
    _, second, *_ = filled(path)
    flip(path, 277)
    spoil(path, FIRST_FRAME, b"x" * 8)
    assert repair(path) == Repaired(3, ((0, second),))
    assert stored(path) == RECORDS[2:]


def test_repair_of_a_file_without_any_group_makes_an_empty_journal(path: Path) -> None:
    """So that the program starts again."""
    path.write_bytes(b"nonsense" * 1000)
    assert repair(path) == Repaired(0, ((0, 8000),))
    assert stored(path) == []


def test_repair_never_overwrites_what_an_earlier_one_kept(path: Path) -> None:
    """But it goes on where an interrupted one stopped."""
    _, second, *_ = filled(path)
    flip(path, second - 1)
    bad = path.with_name("edge.journal.bad")
    bad.hardlink_to(path)
    path.with_name("edge.journal.new").write_bytes(b"half")
    assert repair(path).kept == 3
    kept = bad.read_bytes()
    flip(path, FIRST_FRAME)
    with pytest.raises(JournalError, match=r"edge\.journal\.bad is in the way"):
        repair(path)
    assert bad.read_bytes() == kept


def test_repair_needs_a_file(path: Path) -> None:
    """And makes none."""
    with pytest.raises(JournalError, match="No such file"):
        repair(path)
    assert not path.exists()
