"""The rules of what may be applied to what."""

import pytest

from sovren_edge.errors import StartupError
from sovren_edge.store.history import Applied, Migration, plan, read_migrations, unsuitable
from tests.store.conftest import MakeHistory

KNOWN = tuple(Migration(version, f"step_{version}", f"SELECT {version}") for version in (1, 2, 3))
APPLIED = [Applied(migration.version, migration.sha256) for migration in KNOWN]
NEXT = Applied(4, "of a newer program")


def test_what_is_missing_is_planned_in_order() -> None:
    """An empty database gets all, a full one nothing."""
    assert plan("core", KNOWN, []) == KNOWN
    assert plan("core", KNOWN, APPLIED[:2]) == KNOWN[2:]
    assert plan("core", KNOWN, APPLIED) == ()
    assert plan("core", KNOWN, [*APPLIED, NEXT]) == ()


def test_a_changed_file_is_refused_by_name() -> None:
    """A checksum that differs names its file."""
    with pytest.raises(StartupError, match=r"core: 0001_step_1\.sql is not the file"):
        plan("core", KNOWN, [Applied(1, "other")])


def test_gaps_in_the_database_are_refused() -> None:
    """Versions count from 1 without a gap."""
    with pytest.raises(StartupError, match=r"gap \(1, 3\)"):
        plan("core", KNOWN, [APPLIED[0], APPLIED[2]])


def test_a_program_works_on_its_version_and_the_next() -> None:
    """Every other version is named beside the program's own."""
    assert unsuitable("core", KNOWN, APPLIED) == []
    assert unsuitable("core", KNOWN, [*APPLIED, NEXT]) == []
    old = "core: the database is at version 2, and this program needs 3 or 4: run `sovren-edge migrate`"
    assert unsuitable("core", KNOWN, APPLIED[:2]) == [old]
    new = "core: the database is at version 5, and this program needs 3 or 4: start a newer program"
    assert unsuitable("core", KNOWN, [*APPLIED, NEXT, Applied(5, "later")]) == [new]


def test_files_are_read_in_order(make_history: MakeHistory) -> None:
    """Other files of the package are none of ours."""
    history = make_history("core", {"0002_b.sql": "SELECT 2", "0001_a.sql": "SELECT 1", "notes.txt": ""})
    assert read_migrations(history.package) == (Migration(1, "a", "SELECT 1"), Migration(2, "b", "SELECT 2"))


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (("0001_a.sql", "0003_c.sql"), r"0003_c\.sql stands where number 0002"),
        (("0001_a.sql", "0001_b.sql"), "stands where number 0002"),
        (("0000_a.sql",), "stands where number 0001"),
        (("first.sql",), r"first\.sql is not named like"),
    ],
)
def test_faulty_numbering_is_refused(make_history: MakeHistory, names: tuple[str, ...], fault: str) -> None:
    """Gaps, doubles and strange names are named."""
    history = make_history("core", dict.fromkeys(names, "SELECT 1"))
    with pytest.raises(StartupError, match=fault):
        read_migrations(history.package)


def test_an_absent_package_is_a_fault() -> None:
    """It is named."""
    with pytest.raises(StartupError, match=r"no\.such\.package"):
        read_migrations("no.such.package")
