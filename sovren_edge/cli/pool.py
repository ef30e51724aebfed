"""Owns the commands that look at a running program and change it, through its admin socket.

Must not know what a change does.
"""

from pathlib import Path
from typing import Any

import click

from sovren_edge.cli.options import json_option, local_option, state_option
from sovren_edge.cli.running import change_path, give
from sovren_edge.cli.show import show_json, show_kept, show_pools

_endpoint = click.argument("endpoint")


@click.group()
def pool() -> None:
    """Look at the pools of the running program, and change their endpoints until it ends."""


@pool.command("list")
@local_option
@state_option
@json_option
def list_pools(state_dir: Path | None, *, local: bool, as_json: bool) -> None:
    """Print every endpoint of every pool."""
    pools = _call("GET", "/pools", None, state_dir, local=local)
    if as_json:
        show_json(pools)
    else:
        show_pools(pools)


@pool.command()
@_endpoint
@local_option
@state_option
def drain(endpoint: str, state_dir: Path | None, *, local: bool) -> None:
    """Give an endpoint no further requests; its open ones end as they would."""
    _change(endpoint, {"enabled": False}, state_dir, local=local)


@pool.command()
@_endpoint
@local_option
@state_option
def enable(endpoint: str, state_dir: Path | None, *, local: bool) -> None:
    """Let an endpoint that was drained take requests again."""
    _change(endpoint, {"enabled": True}, state_dir, local=local)


@pool.command()
@_endpoint
@click.argument("count", type=int)
@local_option
@state_option
def slots(endpoint: str, count: int, state_dir: Path | None, *, local: bool) -> None:
    """Set how many requests an endpoint may have at once."""
    _change(endpoint, {"slots": count}, state_dir, local=local)


@pool.command()
@_endpoint
@click.argument("value", type=float)
@local_option
@state_option
def weight(endpoint: str, value: float, state_dir: Path | None, *, local: bool) -> None:
    """Set how much more an endpoint is to have than one of weight 1."""
    _change(endpoint, {"weight": value}, state_dir, local=local)


@click.group()
def kept() -> None:
    """Look at the answers that the running program keeps in memory, and forget them."""


@kept.command("list")
@local_option
@state_option
@json_option
def list_kept(state_dir: Path | None, *, local: bool, as_json: bool) -> None:
    """Print how many answers each pool keeps, and how often they were given."""
    answers = _call("GET", "/kept", None, state_dir, local=local)
    if as_json:
        show_json(answers)
    else:
        show_kept(answers)


@kept.command()
@local_option
@state_option
def clear(state_dir: Path | None, *, local: bool) -> None:
    """Forget all kept answers."""
    show_kept(_call("DELETE", "/kept", None, state_dir, local=local))


def _change(endpoint: str, change: dict[str, object], state_dir: Path | None, *, local: bool) -> None:
    (changed,) = _call("PATCH", change_path(endpoint), change, state_dir, local=local)
    show_pools([{**changed, "endpoints": [one for one in changed["endpoints"] if one["name"] == endpoint]}])


def _call(
    method: str, path: str, body: dict[str, object] | None, state_dir: Path | None, *, local: bool
) -> list[dict[str, Any]]:
    """Give one command; return the pools that are its answer."""
    answer = give(method, path, body, state_dir, local=local)
    return answer if isinstance(answer, list) else [answer]
