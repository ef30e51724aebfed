"""Every line of a table is as wide as the others, and what is too long loses its middle."""

import pytest
from rich.text import Text

from sovren_edge.cli.top.lines import Column, Row, Table, lay


def table(name: str = "tts-tier1-01", *, trailing: bool = False) -> Table:
    """Return a table of two rows."""
    rows = (
        Row("one", (Text(name), Text("7")), trail=(0.1, 0.2), top=0.2),
        Row("two", (Text("csm"), Text("1234")), trail=(), top=0.2),
    )
    return Table((Column("pool"), Column("used", right=True)), rows, trailing=trailing)


def test_columns_are_as_wide_as_what_they_hold() -> None:
    """Names begin at the left, numbers end at the right."""
    lines = lay(table(), 80)
    assert [lines.head.plain, *(line.plain for line in lines.body)] == [
        "pool          used", "tts-tier1-01     7", "csm           1234",
    ]  # fmt: skip


def test_what_is_left_shows_the_trail() -> None:
    """The newest at the right edge; the head says how far back it goes."""
    lines = lay(table(trailing=True), 40)
    assert lines.head.plain == "pool          used             last 20 s"
    assert lines.body[0].plain == "tts-tier1-01     7                    ▅█"
    assert {len(line.plain) for line in lines.body} == {40}
    assert "last 60 s" in lay(table(trailing=True), 200).head.plain


@pytest.mark.parametrize(("width", "name"), [(28, "tts-tier1-01"), (24, "tts-t…1-01"), (5, "tts-…-01")])
def test_names_give_way(width: int, name: str) -> None:
    """Before the trail does; but so much stays that they can be told apart."""
    line = lay(table(trailing=True), width).body[0].plain
    assert line.startswith(f"{name} ")
    assert ("█" in line) == (width > 10)


def test_a_table_without_rows_has_its_head() -> None:
    """And nothing else."""
    lines = lay(Table((Column("pool"),), ()), 10)
    assert (lines.head.plain, lines.body) == ("pool    ", ())
