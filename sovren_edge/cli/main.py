"""Owns the commands: what each is told, in which order it asks the other rooms, and its exit status.

Must not know how anything is judged, opened or shown.
"""

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path

import click

from sovren_edge.cli.credential import credential
from sovren_edge.cli.egress import egress
from sovren_edge.cli.ledger import ledger
from sovren_edge.cli.options import (
    config_option,
    find_config,
    find_state_dir,
    json_option,
    llm_option,
    load_map,
    load_whole,
    local_option,
    node_option,
    offset_option,
    refuse_alone,
    refuse_both,
    secret_source,
    state_option,
)
from sovren_edge.cli.pool import kept, pool
from sovren_edge.cli.running import give
from sovren_edge.cli.show import show_findings, show_json, show_map, show_reload
from sovren_edge.cli.subscriber import subscriber
from sovren_edge.cli.token import token
from sovren_edge.cli.top.command import top
from sovren_edge.cli.verify import verify as ask_all
from sovren_edge.config.histories import histories_of
from sovren_edge.config.load import load_config
from sovren_edge.config.model import Config
from sovren_edge.config.plan import make_plan
from sovren_edge.config.portmap import port_map
from sovren_edge.config.scope import Scope
from sovren_edge.errors import EdgeError, StartupError
from sovren_edge.local.stack import check_parts
from sovren_edge.process.certificates import load_certificates
from sovren_edge.process.supervisor import Launch, run
from sovren_edge.process.tree import Loaded
from sovren_edge.store.migrations import migrate as apply_migrations

# New workers are ready before anything changes.
RELOAD_S = 120.0


class _Commands(click.Group):
    """Tells expected failures to the operator in their own words, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except StartupError as error:
            raise click.ClickException(str(error)) from None
        except EdgeError as error:
            # The kind of the cause, not its text: that may hold a password.
            cause = f" ({type(error.__cause__).__name__})" if error.__cause__ else ""
            raise click.ClickException(f"{error}{cause}") from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sovren-edge")
def main() -> None:
    """Be the front door of the SOVREN AI backend."""


@main.command()
@config_option
@node_option
@local_option
@llm_option
@offset_option
@state_option
def serve(
    path: Path | None, node: str | None, *, local: bool, llm: bool, port_offset: int, state_dir: Path | None
) -> None:
    """Open a node's ports, or all of them here, until a signal."""
    refuse_both(node, local=local)
    refuse_alone(llm=llm, local=local)
    if local:
        check_parts(llm=llm)
    state_dir = find_state_dir(state_dir, local=local)
    config_path = find_config(path)

    def load() -> Loaded:
        secrets = secret_source(state_dir, local=local)
        config = load_config(config_path, secrets=secrets, local=local, node=node)
        plan = make_plan(config, node, local=local, port_offset=port_offset, llm=llm)
        return Loaded(plan, config, frozenset(secrets.names))

    told = ("--local", *(["--llm"] * llm)) if local else () if node is None else ("--node", node)
    judged_by = ("check", "--config", str(config_path), "--state-dir", str(state_dir), *told)
    sys.exit(run(Launch(load, judged_by, state_dir, port_offset)))


@main.command()
@config_option
@node_option
@local_option
@llm_option
@state_option
def check(path: Path | None, node: str | None, *, local: bool, llm: bool, state_dir: Path | None) -> None:
    """Judge the configuration; report every fault at once."""
    refuse_both(node, local=local)
    refuse_alone(llm=llm, local=local)
    config = load_whole(path, find_state_dir(state_dir, local=local), local=local, node=node)
    if node is not None or local:
        load_certificates(make_plan(config, node, local=local, llm=llm).listeners)
    click.echo(f"{find_config(path)} is sound: {_summary(config)}")


@main.command()
@config_option
@node_option
@local_option
@llm_option
@offset_option
@json_option
def ports(path: Path | None, node: str | None, *, local: bool, llm: bool, port_offset: int, as_json: bool) -> None:
    """Print the map of ports."""
    refuse_both(node, local=local)
    refuse_alone(llm=llm, local=local)
    config = load_map(path, local=local)
    if node is not None or local:
        rows = make_plan(config, node, local=local, port_offset=port_offset, llm=llm).map
    else:
        rows = port_map(config, Scope(config.nodes, None, local=False, port_offset=port_offset))
    if as_json:
        show_json([asdict(row) for row in rows])
    else:
        show_map(rows)


@main.command()
@config_option
@node_option
@local_option
@offset_option
@click.option("--host", metavar="ADDRESS", help="Ask this machine; otherwise the one that the command runs on.")
@json_option
def verify(
    path: Path | None, node: str | None, host: str | None, *, local: bool, port_offset: int, as_json: bool
) -> None:
    """Compare every open port's health, byte for byte."""
    refuse_both(node, local=local)
    plan = make_plan(load_map(path, local=local), node, local=local, port_offset=port_offset)
    findings = asyncio.run(ask_all(plan, host))
    if as_json:
        show_json([asdict(finding) for finding in findings])
    else:
        show_findings(findings)
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


@main.command()
@config_option
def migrate(path: Path | None) -> None:
    """Bring the configured handlers' tables up to date."""
    config = load_whole(path, find_state_dir(None, local=False), local=False)
    histories, url = histories_of(config), config.database.url
    # A configuration whose handlers keep tables is only sound with a URL.
    if not histories or url is None:
        click.echo("nothing to migrate: no configured handler keeps tables")
        return
    applied = asyncio.run(apply_migrations(url.get_secret_value(), config.database.schema_name, histories))
    click.echo("\n".join(f"applied {file}" for file in applied) or "nothing to migrate: every table is up to date")


@main.command()
@local_option
@state_option
def reload(state_dir: Path | None, *, local: bool) -> None:
    """Have the running program apply what is different in its configuration; with a fault in it nothing changes."""
    show_reload(give("POST", "/reload", None, state_dir, local=local, timeout_s=RELOAD_S))


main.add_command(pool)
main.add_command(kept)
main.add_command(top)
main.add_command(token)
main.add_command(egress)
main.add_command(credential)
main.add_command(subscriber)
main.add_command(ledger)


def _summary(config: Config) -> str:
    planned = sum(listener.planned for listener in config.listeners.values())
    opened = len(config.listeners) - planned
    return f"{opened} listeners to open, {planned} planned, {len(config.pools)} pools, {len(config.nodes)} nodes"
