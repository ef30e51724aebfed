"""Owns the live view: its panes and keys, and asking the program again and again, also while none answers.

Must not know what stands in a pane. Imported by nothing but the command, when it runs: other commands need no textual.
"""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Literal

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Footer, Static

from sovren_edge.cli.described import read_snapshot
from sovren_edge.cli.running import ask, change_path
from sovren_edge.cli.top import tables
from sovren_edge.cli.top.history import History, Look
from sovren_edge.cli.top.lines import Lines, Row, Table, lay
from sovren_edge.errors import StartupError

EVERY_S = 1.0
# Where the scroll bar is.
_EDGE = 2
# The colours are the terminal's own, whatever they are; the cursor is seen also where there are none.
_STYLE = """
Pane {
    height: auto;
    max-height: 30%;
    scrollbar-size-vertical: 1;
    scrollbar-background: ansi_default;
    scrollbar-background-hover: ansi_default;
    scrollbar-background-active: ansi_default;
}
.-high Pane, .-high #gateway {
    margin-top: 1;
}
#pools {
    height: 1fr;
    max-height: 100%;
}
#trouble {
    display: none;
    color: ansi_red;
    text-style: bold;
}
.-stale Pane {
    text-style: dim;
}
Pane:ansi > .datatable--header {
    background: ansi_default;
    text-style: bold underline;
}
Pane > .datatable--cursor, Pane:focus > .datatable--cursor {
    background: ansi_default;
    color: ansi_default;
    text-style: reverse;
}
"""


class Pane(DataTable[Text]):
    """One table. Whatever comes and goes, the cursor stays on its row, and that where it is on the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("home", "scroll_top", show=False),
        Binding("end", "scroll_bottom", show=False),
    ]

    def __init__(self, name: str, *, cursor: Literal["row", "none"] = "none") -> None:
        super().__init__(id=name, cursor_type=cursor, cell_padding=0, show_row_labels=False)
        self._shown: tuple[Row, ...] = ()
        self._chosen = ""

    def put(self, table: Table) -> None:
        """Show a table."""
        width = self.app.size.width - _EDGE
        lines, column = lay(table, width), next(iter(self.ordered_columns), None)
        known = [row.key for row in self._shown] == [row.key for row in table.rows]
        self._chosen, self._shown = self._chosen if self.chosen is None else self.chosen.key, table.rows
        if column is None or column.width != width or not known:
            self._begin_anew(lines, width)
            return
        column.label = lines.head
        for at, line in enumerate(lines.body):
            if self.get_cell_at(Coordinate(at, 0)) != line:
                self.update_cell_at(Coordinate(at, 0), line)

    def _begin_anew(self, lines: Lines, width: int) -> None:
        above, row = self.scroll_y, self.cursor_row
        self.clear(columns=True)
        self.add_column(lines.head, width=width)
        for line in lines.body:
            self.add_row(line)
        keys = [row.key for row in self._shown]
        first = next((at for at, row in enumerate(self._shown) if row.endpoint is not None), 0)
        self.move_cursor(row=keys.index(self._chosen) if self._chosen in keys else first, scroll=False)
        # Only then it is known how far there is to scroll.
        self.call_after_refresh(self.scroll_to, y=above + self.cursor_row - row, animate=False)

    @property
    def chosen(self) -> Row | None:
        """The row that the cursor is on."""
        return self._shown[self.cursor_row] if self.cursor_row < len(self._shown) else None


class Top(App[None]):
    """The view of one program."""

    ENABLE_COMMAND_PALETTE = False
    TITLE = "sovren-edge top"
    NOTIFICATION_TIMEOUT = 3.0
    CSS = _STYLE
    VERTICAL_BREAKPOINTS = [(0, "-low"), (32, "-high")]  # noqa: RUF012 - the library's type
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "change(False)", "drain"),
        Binding("e", "change(True)", "enable"),
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]

    def __init__(self, where: Path) -> None:
        super().__init__(ansi_color=True)
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
        seen, trouble = None, ""
        try:
            seen = read_snapshot(await ask(self._where, "GET", "/top"))
        except StartupError as error:
            trouble = f"{error}; asked again every second"
        if not self.is_running:
            # Who watched has left meanwhile, and the screen is gone.
            return
        self._tell(trouble)
        if seen is not None:
            self._look = self._history.take(seen, asyncio.get_running_loop().time())
            self._show(self._look)

    def _tell(self, trouble: str) -> None:
        told = self.query_one("#trouble", Static)
        told.display = bool(trouble)
        told.update(Text(trouble))
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
