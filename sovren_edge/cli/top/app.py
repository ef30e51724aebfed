"""Owns the live view: its panes and keys, and asking the program again and again, also while none answers.

Must not know what stands in a pane. Imported by nothing but the command, when it runs: other commands need no textual.
"""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ValidationError
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Static

from sovren_edge.cli.described import Snapshot
from sovren_edge.cli.running import ask, change_path
from sovren_edge.cli.top import tables
from sovren_edge.cli.top.history import History, Look
from sovren_edge.cli.top.lines import Row, Table, lay
from sovren_edge.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Sequence

EVERY_S = 1.0
# Where the scroll bar is.
_EDGE = 2


class Pane(DataTable[Text]):
    """One table, in which the cursor stays on its row whatever comes and goes around it."""

    def __init__(self, name: str, *, cursor: Literal["row", "none"] = "none") -> None:
        super().__init__(id=name, cursor_type=cursor, cell_padding=0, show_row_labels=False)
        self._head = Text()
        self._rows: Sequence[Row] = ()

    def put(self, table: Table) -> None:
        """Show a table."""
        self.display = bool(table.rows)
        lines = lay(table, self.app.size.width - _EDGE)
        same = [row.key for row in self._rows] == [row.key for row in table.rows] and self._head == lines.head
        chosen, self._head, self._rows = self.chosen, lines.head, table.rows
        if same:
            for row, line in zip(table.rows, lines.body, strict=True):
                if self.get_cell(row.key, "line") != line:
                    self.update_cell(row.key, "line", line)
            return
        self.clear(columns=True)
        self.add_column(lines.head, key="line", width=self.app.size.width - _EDGE)
        for row, line in zip(table.rows, lines.body, strict=True):
            self.add_row(line, key=row.key)
        self._choose(chosen)

    @property
    def chosen(self) -> Row | None:
        """The row that the cursor is on."""
        return self._rows[self.cursor_row] if 0 <= self.cursor_row < len(self._rows) else None

    def _choose(self, chosen: Row | None) -> None:
        keys = [row.key for row in self._rows]
        first = next((at for at, row in enumerate(self._rows) if row.endpoint is not None), 0)
        self.move_cursor(row=keys.index(chosen.key) if chosen is not None and chosen.key in keys else first)


class Top(App[None]):
    """The view of one program."""

    ENABLE_COMMAND_PALETTE = False
    TITLE = "sovren-edge top"
    CSS_PATH = "app.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-low"), (32, "-high")]  # noqa: RUF012 - the library's type
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "change(False)", "drain"),
        Binding("e", "change(True)", "enable"),
        Binding("tab", "app.focus_next", "next table"),
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]

    def __init__(self, where: Path) -> None:
        super().__init__()
        self.theme = "ansi-dark"
        self._where = where
        self._history = History()
        self._look: Look | None = None
        self._soon = asyncio.Event()

    def compose(self) -> ComposeResult:
        """Return what is on the screen, from top to bottom."""
        yield Static(id="headline")
        yield Static(id="trouble")
        yield Pane("workers")
        yield Pane("ports")
        yield Static(id="gateway")
        yield Pane("pools", cursor="row")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to look."""
        self.query_one("#pools", Pane).focus()
        self.run_worker(self._watch())

    def on_resize(self) -> None:
        """Lay what was seen out anew."""
        if self._look is not None:
            self._show(self._look)

    async def _watch(self) -> None:
        while True:
            await self._ask()
            self._soon.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._soon.wait()

    async def _ask(self) -> None:
        try:
            seen = Snapshot.model_validate(await ask(self._where, "GET", "/top"))
        except (StartupError, ValidationError) as error:
            self._tell(f"{error}; it is asked again every second")
            return
        self._tell("")
        self._look = self._history.take(seen, asyncio.get_running_loop().time())
        self._show(self._look)

    def _tell(self, trouble: str) -> None:
        told = self.query_one("#trouble", Static)
        told.display = bool(trouble)
        told.update(Text(trouble, "bold red"))
        self.screen.set_class(bool(trouble), "-stale")

    def _show(self, look: Look) -> None:
        self.query_one("#headline", Static).update(tables.headline(look))
        said = tables.gateway(look)
        self.query_one("#gateway", Static).display = bool(said)
        self.query_one("#gateway", Static).update(said)
        for name, table in tables.every(look).items():
            self.query_one(f"#{name}", Pane).put(table)

    def action_change(self, enabled: bool) -> None:  # noqa: FBT001 - a key's argument
        """Drain or enable the endpoint that the cursor is on."""
        chosen = self.query_one("#pools", Pane).chosen
        if chosen is None or chosen.endpoint is None:
            self.notify("the cursor is on no endpoint", severity="warning")
            return
        self.run_worker(self._change(chosen.endpoint, enabled=enabled))

    async def _change(self, endpoint: str, *, enabled: bool) -> None:
        try:
            await ask(self._where, "PATCH", change_path(endpoint), {"enabled": enabled})
        except StartupError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        done = "may have requests again" if enabled else "gets no new requests"
        self.notify(f"{endpoint} {done}", markup=False)
        self._soon.set()
