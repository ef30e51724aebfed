"""The commands that look at journals and repair them: real files, spoilt, and held by other processes."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from sovren_edge.gateway.ledger.frames import FIRST_FRAME
from tests.gateway.commands import Call, caller, fault
from tests.gateway.journals import GROUPS, RECORDS, SIZE, child, filled, flip, line_of, opened, spoil, stored

HOLD = """
import sys
from pathlib import Path
from sovren_edge.gateway.ledger.journal import open_journal
with open_journal(Path(sys.argv[1]), owner="edge-1/boot", size=int(sys.argv[2])) as journal:
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where a program keeps its journals; its state directory is the one that commands look at."""
    monkeypatch.setenv("SOVREN_EDGE_STATE_DIR", str(tmp_path))
    folder = tmp_path / "gateway"
    folder.mkdir()
    return folder


@pytest.fixture
def call(folder: Path) -> Call:
    """Return a way to call `ledger`."""
    assert folder.is_dir()
    return caller("ledger")


def status(call: Call, *, bad: bool = False) -> list[dict[str, Any]]:
    """Return what is told of the journals."""
    result = call("status", "--json")
    assert (result.exit_code, result.stderr) == (int(bad), "")
    told = json.loads(result.stdout)
    assert isinstance(told, list)
    return told


def test_journals_are_told_of(call: Call, folder: Path) -> None:
    """Whose they are and how full, whether a process has them open; other files are none."""
    *_, end = filled(folder / "a.journal")
    flip(folder / "a.journal", end + 100)
    with opened(folder / "b.journal"):
        pass
    (folder / "c.journal").write_bytes(bytes(FIRST_FRAME))
    (folder / "d.journal.bad").write_bytes(b"nonsense")
    (folder / "e.journal").symlink_to(folder / "a.journal")
    with child(HOLD, folder / "f.journal", SIZE) as process:
        assert line_of(process) == b"held\n"
        rows = status(call)
        table = call("status").stdout.splitlines()
    owner = "edge-1/boot"
    expected = [
        ("a.journal", owner, len(RECORDS), end - FIRST_FRAME, False),
        ("b.journal", owner, 0, 0, False),
        ("c.journal", "", 0, 0, False),
        ("f.journal", owner, 0, 0, True),
    ]
    assert [
        (Path(row["path"]).name, row["owner"], row["records"], row["used_bytes"], row["in_use"]) for row in rows
    ] == expected
    assert [row["free_bytes"] for row in rows] == [SIZE - end, SIZE - FIRST_FRAME, 0, SIZE - FIRST_FRAME]
    assert not any(row["bad"] or row["why"] for row in rows)
    assert all(row["path"].startswith(f"{folder}/") for row in rows)
    assert [line.split()[-2:] for line in table[1:]] == [["left", "behind"]] * 3 + [["in", "use"]]


def test_a_bad_journal_is_told_of(call: Call, folder: Path) -> None:
    """And why, with an exit status for a watchman: a bad record, a bad header, another version, no right to read."""
    _, second, *_ = filled(folder / "a.journal")
    flip(folder / "a.journal", second - 1)
    filled(folder / "b.journal")
    flip(folder / "b.journal", 30)
    filled(folder / "c.journal")
    (folder / "d.journal").write_bytes(b"nonsense" * 1000)
    rows = {Path(row["path"]).name: row for row in status(call, bad=True)}
    assert [row["bad"] for row in rows.values()] == [True, True, False, True]
    assert f"has a bad record at offset {FIRST_FRAME}" in rows["a.journal"]["why"]
    assert rows["a.journal"]["records"] == 0
    assert "has no valid header" in rows["b.journal"]["why"]
    assert "has no valid header" in rows["d.journal"]["why"]
    assert "bad: journal" in call("status").stdout


def test_every_bad_journal_is_repaired(call: Call, folder: Path) -> None:
    """And no other; then it can be opened, and the old file is beside it."""
    _, second, third, end = filled(folder / "a.journal")
    flip(folder / "a.journal", second + 17)
    filled(folder / "b.journal")
    flip(folder / "b.journal", 30)
    filled(folder / "c.journal")
    spoil(folder / "c.journal", end, b"torn")
    result = call("repair")
    assert (result.exit_code, result.stderr) == (0, "")
    a, b = folder / "a.journal", folder / "b.journal"
    assert result.stdout.splitlines() == [
        f"{a}: 4 records kept, {third - second} bytes given up",
        f"  {third - second} bytes at offset {second} are no records",
        f"  the old file is {a}.bad",
        f"{b}: {len(RECORDS)} records kept, {FIRST_FRAME} bytes given up",
        f"  {FIRST_FRAME} bytes at offset 0 are no records",
        "  whose journal it is can no longer be told",
        f"  the old file is {b}.bad",
    ]
    assert stored(a) == [*GROUPS[0], *GROUPS[2]]
    assert sorted(path.name for path in folder.iterdir()) == [
        "a.journal", "a.journal.bad", "b.journal", "b.journal.bad", "c.journal",
    ]  # fmt: skip
    assert not any(row["bad"] for row in status(call))
    assert call("repair").stdout == "nothing to repair: no journal is bad\n"


def test_one_journal_is_repaired(call: Call, folder: Path) -> None:
    """Which is named; a good one stays as it is."""
    first, *_ = filled(folder / "a.journal")
    filled(folder / "b.journal")
    for name in ("a.journal", "b.journal"):
        flip(folder / name, first + 17)
    good = folder.parent / "c.journal"
    filled(good)
    assert call("repair", str(folder / "a.journal")).exit_code == 0
    assert [row["bad"] for row in status(call, bad=True)] == [False, True]
    told = call("repair", str(good))
    assert (told.exit_code, told.stdout) == (
        0,
        f"{good}: nothing is bad; all {len(RECORDS)} records are as they were\n",
    )


def test_a_journal_in_use_is_left_alone(call: Call, folder: Path) -> None:
    """Its process is at work on it."""
    path = folder / "a.journal"
    first, *_ = filled(path)
    with child(HOLD, path, SIZE) as process:
        assert line_of(process) == b"held\n"
        flip(path, first + 17)
        assert "is in use: another process has it open" in fault(call("repair", str(path)))
        assert call("repair").stdout == "nothing to repair: no journal is bad\n"
    assert status(call, bad=True)[0]["bad"]


def test_what_cannot_be_repaired_holds_up_nothing(call: Call, folder: Path) -> None:
    """An earlier repair's old file is never overwritten; the next journal is repaired all the same."""
    for name in ("a.journal", "b.journal"):
        first, *_ = filled(folder / name)
        flip(folder / name, first + 17)
    (folder / "a.journal.bad").write_bytes(b"kept")
    result = call("repair")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: journal {folder / 'a.journal'} is not repaired: {folder / 'a.journal.bad'} is in the way\n"
    )
    assert (folder / "a.journal.bad").read_bytes() == b"kept"
    assert [row["bad"] for row in status(call, bad=True)] == [True, False]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("repair", "none.journal"), "No such file"),
        (("repair", "a.journal.bad"), "their names end with .journal"),
        (("status", "--state-dir", "nowhere"), "no gateway has run here"),
        (("repair", "--state-dir", "nowhere"), "no gateway has run here"),
    ],
)
def test_what_is_not_there_is_told(call: Call, words: tuple[str, ...], why: str) -> None:
    """In one line."""
    assert why in fault(call(*words))


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can give files away")
def test_root_repairs_for_the_program_s_user(call: Call, folder: Path) -> None:
    """Who must be able to open it afterwards."""
    path = folder / "a.journal"
    first, *_ = filled(path)
    flip(path, first + 17)
    os.chown(path, 4321, 1234)
    assert call("repair").exit_code == 0
    assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o777) == (4321, 1234, 0o600)
