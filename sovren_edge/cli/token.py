"""Owns the command that makes tokens.

Must not know what a token permits.
"""

import os
import time
from pathlib import Path

import click

from sovren_edge.auth.tokens import make_token
from sovren_edge.cli.options import config_option, find_config, find_state_dir, state_option
from sovren_edge.config.load import load_auth
from sovren_edge.errors import StartupError
from sovren_edge.secret import SecretSource

DAY_S = 86_400


@click.command()
@click.option("--subject", required=True, metavar="ID", help="Whom it names: a subscriber, as 'founder'.")
@click.option("--scope", default="", metavar="SCOPES", help="What it permits: 'operator' may act for everybody.")
@click.option(
    "--ttl", "ttl_s", default=DAY_S, show_default=True, type=click.IntRange(1), metavar="SECONDS", help="For how long."
)
@config_option
@state_option
def token(subject: str, scope: str, ttl_s: int, path: Path | None, state_dir: Path | None) -> None:
    """Print a token, alone on the last line.

    It is signed with the configuration's key; if that has none, or --state-dir is given, with the one of --local.
    """
    found = find_config(path)
    settings = load_auth(found, SecretSource(os.environ), local=False) if state_dir is None else None
    if settings is None or (settings.key is None and settings.jwks_url is None):
        made_in = find_state_dir(state_dir, local=True) / "secrets"
        settings = load_auth(found, SecretSource(os.environ, made_in), local=True)
    try:
        click.echo(make_token(settings, subject=subject, scope=scope, ttl_s=ttl_s, now=time.time()))
    except ValueError as error:
        raise StartupError(str(error)) from None
