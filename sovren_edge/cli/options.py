"""Owns what several commands are told, and how a configuration is found and read for them.

Must not know any command.
"""

import os
from pathlib import Path

import click

from sovren_edge.config.load import load_config
from sovren_edge.config.model import Config
from sovren_edge.errors import StartupError
from sovren_edge.gateway.subscribers import SUBSCRIBER_ID
from sovren_edge.secret import SecretSource

config_option = click.option(
    "--config",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The configuration; otherwise config.toml here, or else the one of the clone that this program runs from.",
)
node_option = click.option("--node", metavar="NAME", help="Only this node's ports.")
local_option = click.option("--local", is_flag=True, help="All ports, on 127.0.0.1, with a local stack behind them.")
llm_option = click.option("--llm", is_flag=True, help="With --local: a small chat model as well, to try things with.")
offset_option = click.option(
    "--port-offset", type=click.IntRange(0, 65535), default=0, metavar="N", help="Added to every port that is opened."
)
state_option = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="SOVREN_EDGE_STATE_DIR",
    show_envvar=True,
    help="Where state is kept; otherwise .state here with --local, and /var/lib/sovren-edge without.",
)
subscriber_argument = click.argument("subscriber", callback=lambda _context, _argument, text: read_subscriber(text))
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def refuse_both(node: str | None, *, local: bool) -> None:
    """Refuse two answers to one question: which part of the map a command concerns."""
    if local and node is not None:
        raise click.UsageError("--node and --local exclude each other")


def refuse_alone(*, llm: bool, local: bool) -> None:
    """Refuse a chat model where there is no local stack for it."""
    if llm and not local:
        raise click.UsageError("--llm goes with --local: a node finds its chat server by services.chat")


def read_subscriber(text: str) -> str:
    """Return a subscriber's id, if it is one."""
    if SUBSCRIBER_ID.fullmatch(text) is None:
        raise StartupError("a subscriber is 1 to 64 letters, digits, underscores and hyphens")
    return text


def find_config(path: Path | None) -> Path:
    """Return the configuration's path: the one told, or the nearest that exists."""
    if path is not None:
        return path
    nearest = (Path("config.toml"), Path(__file__).parents[2] / "config.toml")
    for candidate in nearest:
        if candidate.exists():
            return candidate
    raise StartupError("there is no config.toml here: name a configuration with --config")


def find_state_dir(told: Path | None, *, local: bool) -> Path:
    """Return where state is kept."""
    return (told or Path(".state" if local else "/var/lib/sovren-edge")).absolute()


def secret_source(state_dir: Path, *, local: bool) -> SecretSource:
    """Return where secrets are read from; with `local`, missing ones are made."""
    return SecretSource(os.environ, state_dir / "secrets" if local else None)


def load_whole(path: Path | None, state_dir: Path, *, local: bool, node: str | None = None) -> Config:
    """Read a configuration with its secrets and handlers."""
    return load_config(find_config(path), secrets=secret_source(state_dir, local=local), local=local, node=node)


def load_map(path: Path | None, *, local: bool) -> Config:
    """Read a configuration for its ports alone, as anybody may who has neither its secrets nor its handlers."""
    return load_config(find_config(path), secrets=None, local=local)
