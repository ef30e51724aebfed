"""Owns `sovren-edge top`: whether it is watched, or printed once for people or for programs.

Must not know how anything is shown.
"""

import asyncio
import sys
from pathlib import Path

import click

from sovren_edge.cli.described import read_snapshot
from sovren_edge.cli.options import json_option, local_option, state_option
from sovren_edge.cli.running import ask, find_program
from sovren_edge.cli.show import show_json, show_top
from sovren_edge.cli.top import tables
from sovren_edge.cli.top.history import History, Look

APART_S = 1.0


@click.command()
@local_option
@state_option
@click.option("--once", is_flag=True, help="Look for a second, print, and end.")
@json_option
def top(state_dir: Path | None, *, local: bool, once: bool, as_json: bool) -> None:
    """Watch the running program: its ports, pools, endpoints and processes; drain and enable endpoints."""
    where = find_program(state_dir, local=local)
    if as_json and not once:
        raise click.UsageError("--json needs --once")
    if as_json:
        show_json(asyncio.run(ask(where, "GET", "/top")))
    elif once:
        look = asyncio.run(_look(where))
        show_top((tables.headline(look), tables.gateway(look)), tables.every(look))
    else:
        _watch(where)


def _watch(where: Path) -> None:
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise click.UsageError("this is no terminal; --once prints what it would show")
    # Other commands begin without it.
    from sovren_edge.cli.top.app import Top  # noqa: PLC0415

    Top(where).run()


async def _look(where: Path) -> Look:
    """Look twice: what happens in a second, one look does not show."""
    history, now = History(), asyncio.get_running_loop().time
    history.take(read_snapshot(await ask(where, "GET", "/top")), now())
    await asyncio.sleep(APART_S)
    return history.take(read_snapshot(await ask(where, "GET", "/top")), now())
