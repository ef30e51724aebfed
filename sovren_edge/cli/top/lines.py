"""Owns laying rows and columns out as lines of one width.

Pure. Must not know what they are about.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from sovren_edge.cli.top.figures import trail

LEAST_TRAIL, MOST_TRAIL = 8, 60
_LEAST_NAME = 8


@dataclass(frozen=True, slots=True)
class Column:
    """One column; the first of a table gives way where there is no room."""

    title: str
    right: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `endpoint` is what can be changed here; `trail` is drawn in what room is left, up to `top`."""

    key: str
    cells: tuple[Text, ...]
    endpoint: str | None = None
    trail: tuple[float | None, ...] = ()
    top: float = 0.0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    trailing: bool = False


@dataclass(frozen=True, slots=True)
class Lines:
    """A table as it is shown: its head, and a line for each row."""

    head: Text
    body: tuple[Text, ...]


def lay(table: Table, width: int) -> Lines:
    """Lay a table out; with `trailing` what is left of the width shows how the rows did at the last looks."""
    gap = "  " if sum(_natural(table)) + 2 * len(table.columns) + LEAST_TRAIL * table.trailing <= width else " "
    widths = _fit(table, width, len(gap))
    left = width - sum(widths) - len(gap) * len(widths)
    length = min(left, MOST_TRAIL) if table.trailing and left >= LEAST_TRAIL else 0
    titles = [Text(column.title, "bold") for column in table.columns]
    head = _line(table, titles, widths, gap)
    if length:
        head.append(f"{gap}{f'last {length} s':>{length}}", "bold")
    return Lines(head, tuple(_with_trail(_line(table, row.cells, widths, gap), row, length, gap) for row in table.rows))


def _natural(table: Table) -> list[int]:
    columns = range(len(table.columns))
    return [
        max(cell_len(table.columns[at].title), *(row.cells[at].cell_len for row in table.rows), 0) for at in columns
    ]


def _fit(table: Table, width: int, gap: int) -> list[int]:
    first, *others = _natural(table)
    room = width - sum(others) - gap * len(table.columns) - (LEAST_TRAIL if table.trailing else 0)
    return [max(min(first, room), _LEAST_NAME), *others]


def _line(table: Table, cells: Sequence[Text], widths: Sequence[int], gap: str) -> Text:
    laid = []
    for column, cell, width in zip(table.columns, cells, widths, strict=True):
        fitting = _shorten(cell, width)
        fitting.align("right" if column.right else "left", width)
        laid.append(fitting)
    return Text(gap).join(laid)


def _shorten(cell: Text, width: int) -> Text:
    """Leave the middle out of what is too long: names of one kind differ in their ends."""
    if cell.cell_len <= width:
        return cell.copy()
    tail = (width - 1) // 2
    return Text.assemble(cell[: width - 1 - tail], "…", cell[len(cell) - tail :])


def _with_trail(line: Text, row: Row, length: int, gap: str) -> Text:
    if length:
        line.append(gap + trail(row.trail, row.top, width=length), "cyan")
    return line
