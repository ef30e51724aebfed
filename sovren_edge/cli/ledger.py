"""Owns the commands that look at the journals of gateways, and repair those that cannot be opened.

Must not know their format, nor what they hold. A program may run meanwhile: what it has open is left alone.
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from sovren_edge.cli.options import find_state_dir, json_option, local_option, state_option
from sovren_edge.cli.show import show_journals, show_json
from sovren_edge.errors import StartupError
from sovren_edge.gateway.ledger.frames import JournalError
from sovren_edge.gateway.ledger.inspection import Inspected, inspect_all
from sovren_edge.gateway.ledger.journal import FOLDER, SUFFIX
from sovren_edge.gateway.ledger.repair import Repaired, bad_path
from sovren_edge.gateway.ledger.repair import repair as repair_journal


@click.group()
def ledger() -> None:
    """Look at what gateways have on disk for the ledger, while PostgreSQL is away, and repair it."""


@ledger.command()
@local_option
@state_option
@json_option
def status(state_dir: Path | None, *, local: bool, as_json: bool) -> None:
    """Print every journal; the exit status is 1 if one is bad."""
    journals = _inspect(state_dir, local=local)
    rows: list[dict[str, object]] = [{**asdict(each), "path": str(each.path), "bad": each.bad} for each in journals]
    if as_json:
        show_json(rows)
    else:
        show_journals(rows)
    sys.exit(1 if any(each.bad for each in journals) else 0)


@ledger.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@local_option
@state_option
def repair(path: Path | None, state_dir: Path | None, *, local: bool) -> None:
    """Write a bad journal anew with all of it that is valid: this one, or every bad one.

    The old file stays beside it. The gateway brings what is in the new one to PostgreSQL by itself.
    """
    paths = [path] if path else [each.path for each in _inspect(state_dir, local=local) if each.bad]
    if not paths:
        click.echo("nothing to repair: no journal is bad")
    faults = [fault for fault in map(_repair, paths) if fault]
    for fault in faults:
        click.echo(f"Error: {fault}", err=True)
    sys.exit(1 if faults else 0)


def _inspect(state_dir: Path | None, *, local: bool) -> list[Inspected]:
    folder = find_state_dir(state_dir, local=local) / FOLDER
    try:
        return inspect_all(folder)
    except JournalError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            advice = "--local and --state-dir say which place is meant"
            raise StartupError(f"no gateway has run here, there is no {folder}: {advice}") from None
        raise StartupError(str(error)) from None


def _repair(path: Path) -> str:
    """Repair one, and tell of it; return why it cannot be repaired."""
    if path.suffix != SUFFIX:
        return f"{path} is no journal: their names end with {SUFFIX}"
    try:
        repaired = repair_journal(path)
    except JournalError as error:
        return str(error)
    click.echo("\n".join(_told(path, repaired)))
    return ""


def _told(path: Path, repaired: Repaired) -> Iterator[str]:
    if not repaired.gaps:
        yield f"{path}: nothing is bad; all {repaired.kept} records are as they were"
        return
    yield f"{path}: {repaired.kept} records kept, {repaired.lost_bytes} bytes given up"
    for offset, length in repaired.gaps:
        yield f"  {length} bytes at offset {offset} are no records"
    if repaired.owner_lost:
        yield "  whose journal it is can no longer be told"
    yield f"  the old file is {bad_path(path)}"
