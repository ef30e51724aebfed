"""Owns how findings are printed: tables for people, JSON for programs.

Must not know where they come from.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import click
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from sovren_edge.cli.described import Pool
from sovren_edge.cli.top.lines import Table, lay
from sovren_edge.cli.verify import Finding
from sovren_edge.config.portmap import MapRow
from sovren_edge.config.scope import State

_PIPE_WIDTH = 200
_COLOURS = {State.SERVE: "green", State.LOCAL: "green", State.ABSENT: "red", State.PLANNED: "dim"}


def show_map(rows: Sequence[MapRow]) -> None:
    """Print the port map."""
    table = _table("port", "node", "kind", "name", "pool or handler", "state")
    for row in rows:
        state = Text(row.state, _COLOURS.get(row.state, ""))
        table.add_row(*map(Text, (str(row.port), row.node, row.kind, row.name, row.target)), state)
    _print(table)


def show_networks(networks: Sequence[Mapping[str, object]]) -> None:
    """Print networks, one a line."""
    table = _table("network", "name")
    for network in networks:
        table.add_row(*map(Text, (str(network["network"]), str(network["name"]))))
    _print(table)


def show_findings(findings: Sequence[Finding]) -> None:
    """Print what every port answered."""
    table = _table("port", "name", "expected", "found", "ok")
    for finding in findings:
        verdict = Text("yes", "green") if finding.ok else Text("no", "bold red")
        table.add_row(*map(Text, (str(finding.port), finding.name, finding.expected, finding.found)), verdict)
    _print(table)


def show_pools(pools: Sequence[Mapping[str, Any]]) -> None:
    """Print endpoints as a status port describes them, one a line."""
    table = _table("pool", "endpoint", "address", "state", "inflight", "slots", "weight", "queue", "ttfa p95, s")
    for pool in map(Pool.model_validate, pools):
        for endpoint in pool.endpoints:
            state = Text(endpoint.state, "green" if endpoint.ready else "red")
            numbers = (endpoint.inflight, endpoint.slots, endpoint.weight, pool.queue.length)
            ttfa = endpoint.ttfa_s.p95
            names = map(Text, (pool.name, endpoint.name, endpoint.address))
            table.add_row(*names, state, *map(str, numbers), "" if ttfa is None else str(ttfa))
    _print(table)


def show_top(said: Iterable[Text], shown: Mapping[str, Table]) -> None:
    """Print what `top` shows, as it is now."""
    console = _console()
    for text in filter(None, said):
        console.print(text, soft_wrap=True)
    for table in shown.values():
        lines = lay(replace(table, trailing=False), console.width)
        for line in ("", lines.head, *lines.body) if lines.body else ():
            console.print(line, soft_wrap=True)


def show_kept(pools: Sequence[Mapping[str, Any]]) -> None:
    """Print what pools keep in memory."""
    columns = ("pool", "answers", "bytes", "limit", "served")
    table = _table(*columns)
    for pool in pools:
        table.add_row(*(Text(str(pool[column])) for column in columns))
    _print(table)


def show_credentials(credentials: Sequence[Mapping[str, object]]) -> None:
    """Print what is stored of credentials, one a line."""
    columns = ("subscriber", "service", "host", "kind", "header", "key", "updated_at")
    table = _table(*columns)
    for credential in credentials:
        table.add_row(*(Text(str(credential[column])) for column in columns))
    _print(table)


def show_subscribers(subscribers: Sequence[Mapping[str, object]]) -> None:
    """Print subscribers, one a line."""
    table = _table("subscriber", "hourly_limit", "created_at")
    for subscriber in subscribers:
        limit = subscriber["hourly_limit"] or "default"
        table.add_row(*map(Text, (str(subscriber["subscriber"]), str(limit), str(subscriber["created_at"]))))
    _print(table)


def show_reload(changed: Mapping[str, Sequence[str]]) -> None:
    """Print what a reload has changed."""
    said = [f"{what}: {', '.join(names)}" for what, names in changed.items() if names]
    click.echo("reloaded; " + "; ".join(said) if said else "reloaded; nothing is different")


def show_journals(journals: Sequence[Mapping[str, object]]) -> None:
    """Print journals, one a line."""
    table = _table("journal", "owner", "records", "used_bytes", "free_bytes", "state")
    for journal in journals:
        state = Text("in use" if journal["in_use"] else "left behind")
        if journal["bad"]:
            state = Text(f"bad: {journal['why']}", "bold red")
        columns = ("path", "owner", "records", "used_bytes", "free_bytes")
        table.add_row(*(Text(str(journal[column])) for column in columns), state)
    _print(table)


def show_json(told: object) -> None:
    """Print what JSON knows."""
    click.echo(json.dumps(told, indent=2))


def _table(*columns: str) -> RichTable:
    table = RichTable(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column == "port" else "left", overflow="fold")
    return table


def _print(table: RichTable) -> None:
    _console().print(table)


def _console() -> Console:
    # A pipe has no width: let lines be as long as they are, for grep.
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
