"""Owns what a history of migrations is, and the rules of what may be applied to what.

Must not know PostgreSQL: files and records come in, decisions come out.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from sovren_edge.errors import StartupError

_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


@dataclass(frozen=True, slots=True)
class History:
    """One line of migrations: its name in the database, and the package whose folder holds its files."""

    name: str
    package: str


@dataclass(frozen=True, slots=True)
class Migration:
    """One file `0001_name.sql`; versions count from 1."""

    version: int
    name: str
    sql: str

    @property
    def file(self) -> str:
        """The file's name."""
        return f"{self.version:04}_{self.name}.sql"

    @property
    def sha256(self) -> str:
        """The text's checksum, in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Applied:
    """The database's record of a migration."""

    version: int
    checksum: str


def read_migrations(package: str) -> tuple[Migration, ...]:
    """Return a package's migrations in order; StartupError if their numbers are not 1, 2, 3 and so on."""
    try:
        entries = [entry for entry in files(package).iterdir() if entry.name.endswith(".sql")]
    except ModuleNotFoundError:
        raise StartupError(f"the package of migrations {package} does not exist") from None
    found = tuple(_read(package, entry.name, entry.read_text(encoding="utf-8")) for entry in entries)
    ordered = tuple(sorted(found, key=lambda migration: migration.version))
    for expected, migration in enumerate(ordered, start=1):
        if migration.version != expected:
            raise StartupError(f"{package}: {migration.file} stands where number {expected:04} is expected")
    return ordered


def _read(package: str, name: str, sql: str) -> Migration:
    match = _FILE.fullmatch(name)
    if match is None:
        raise StartupError(f"{package}: {name} is not named like 0001_name.sql")
    return Migration(int(match[1]), match[2], sql)


def faults(name: str, known: Sequence[Migration], applied: Sequence[Applied]) -> list[str]:
    """Return as sentences why these records cannot stem from this history, or from its next version."""
    versions = sorted(record.version for record in applied)
    found = [] if versions == list(range(1, len(versions) + 1)) else [_gap(name, versions)]
    checksums = {record.version: record.checksum for record in applied}
    found += [
        f"{name}: {migration.file} is not the file that was applied to the database"
        for migration in known
        if checksums.get(migration.version, migration.sha256) != migration.sha256
    ]
    if len(versions) > len(known) + 1:
        found.append(f"{_versions(name, known, applied)}: start a newer program")
    return found


def plan(name: str, known: Sequence[Migration], applied: Sequence[Applied]) -> tuple[Migration, ...]:
    """Return the migrations still to apply, in order; StartupError with every fault."""
    if found := faults(name, known, applied):
        raise StartupError("; ".join(found))
    return tuple(known[len(applied) :])


def unsuitable(name: str, known: Sequence[Migration], applied: Sequence[Applied]) -> list[str]:
    """Return as sentences why a program of this history cannot work on this database."""
    found = faults(name, known, applied)
    if len(applied) < len(known):
        found.append(f"{_versions(name, known, applied)}: run `sovren-edge migrate`")
    return found


def _versions(name: str, known: Sequence[Migration], applied: Sequence[Applied]) -> str:
    return f"{name}: the database is at version {len(applied)}, and this program needs {len(known)} or {len(known) + 1}"


def _gap(name: str, versions: Sequence[int]) -> str:
    listed = ", ".join(str(version) for version in versions)
    return f"{name}: the database's versions have a gap ({listed})"
