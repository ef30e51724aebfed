"""Owns the commands that set, list and remove what external services are called with, and change its keys.

Must not know how anything is sealed or used. No secret is an argument or printed.
"""

import asyncio
import sys
from collections.abc import Callable

import click

from sovren_edge.cli.given import read_members, read_value
from sovren_edge.cli.options import json_option, read_subscriber
from sovren_edge.cli.place import Place, in_place
from sovren_edge.cli.show import show_credentials, show_json
from sovren_edge.errors import StartupError
from sovren_edge.gateway.credentials import rotation
from sovren_edge.gateway.credentials.oauth import OAuthSecret
from sovren_edge.gateway.credentials.sealing import make_sealer
from sovren_edge.gateway.credentials.store import (
    CredentialStore,
    HeaderSecret,
    Purpose,
    Secret,
    list_credentials,
    remove_credential,
)
from sovren_edge.gateway.egress.fields import may_be_sent
from sovren_edge.gateway.egress.policy import Denial, is_entry, judge, read_target
from sovren_edge.gateway.settings import GatewaySettings
from sovren_edge.gateway.subscriber_store import find_subscriber


def _of_purpose(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command be told what a credential is for."""
    for name in ("host", "service", "subscriber"):
        command = click.argument(name)(command)
    return command


@click.group()
def credential() -> None:
    """Keep what external services are called with: for a subscriber, a service and exactly one host."""


@credential.command("set")
@_of_purpose
@click.option("--header", default="Authorization", show_default=True, metavar="NAME", help="The field that carries it.")
@click.option("--oauth", is_flag=True, help="It is a token that is got, and refreshed, by OAuth 2.0.")
@click.option("--token-url", default="", metavar="URL", help="Where tokens are got.")
@click.option("--client-id", default="", metavar="ID", help="Our name there.")
@click.option(
    "--client-auth",
    type=click.Choice(["basic", "body"]),
    default="basic",
    show_default=True,
    help="Where the client secret is sent: by HTTP Basic, or in the body.",
)
@click.option("--scope", default="", metavar="SCOPE", help="What is asked for.")
@in_place
def set_(place: Place, *, subscriber: str, service: str, host: str, header: str, oauth: bool, **client: str) -> None:
    """Store a credential, in the place of the one before.

    Standard input, or a prompt, has the whole value of the field, as in `Bearer TOKEN`; with --oauth a JSON object of
    `client_secret` and `refresh_token`, of which one may be missing.
    """
    purpose = _judged(Purpose(subscriber, service, host.lower()), place.config.gateway)
    if not may_be_sent(header):
        raise StartupError(f"{header} is no field that may be set")
    if not oauth and (client["token_url"] or client["client_id"]):
        raise StartupError("--token-url and --client-id go with --oauth")
    secret = _read_oauth(**client) if oauth else HeaderSecret(read_value(header))
    asyncio.run(_set(place, purpose, header, secret))


@credential.command("list")
@click.argument("subscriber", default="")
@json_option
@in_place
def list_(place: Place, *, subscriber: str, as_json: bool) -> None:
    """Print what is stored, without secrets: for one subscriber, or for all."""
    rows = asyncio.run(_list(place, subscriber))
    if as_json:
        show_json(rows)
    else:
        show_credentials(rows)


@credential.command()
@_of_purpose
@in_place
def remove(place: Place, *, subscriber: str, service: str, host: str) -> None:
    """Remove a credential."""
    asyncio.run(_remove(place, Purpose(subscriber, service, host.lower())))


@credential.command()
@in_place
def rotate(place: Place) -> None:
    """Seal under the first key all that is sealed under others; the gateway may run meanwhile."""
    done = asyncio.run(_rotate(place))
    click.echo(f"{done.sealed} sealed again")
    faults = [f"{' '.join(purpose)}: {why}" for purpose, why in done.unreadable.items()]
    faults += [f"{' '.join(purpose)}: it is in use all the time; try again" for purpose in done.busy]
    for fault in faults:
        click.echo(f"Error: {fault}", err=True)
    sys.exit(1 if faults else 0)


def _store(place: Place) -> CredentialStore:
    """Return what seals credentials there."""
    if place.config.gateway.credential_keys is None:
        raise StartupError("gateway.credential_keys names no keys: there is nothing to seal with")
    sealer = make_sealer(place.config.gateway.credential_keys)
    return CredentialStore(lambda: sealer)


def _judged(purpose: Purpose, settings: GatewaySettings) -> Purpose:
    """Return what a credential is for, if the gateway would ever use it so."""
    read_subscriber(purpose.subscriber)
    target = read_target(f"https://{purpose.host}/") if is_entry(purpose.host) else None
    if target is None or isinstance(target, Denial):
        raise StartupError(f"{purpose.host} is not the name of a host")
    if (denial := judge(target, purpose.service, settings.hosts)) is not None:
        raise StartupError(denial.detail)
    return purpose


def _read_oauth(token_url: str, client_id: str, client_auth: str, scope: str) -> OAuthSecret:
    if not token_url or not client_id:
        raise StartupError("--oauth goes with --token-url and --client-id")
    if isinstance(target := read_target(token_url), Denial):
        raise StartupError(f"--token-url: {target.detail}")
    given = read_members("client_secret", "refresh_token")
    if not given:
        raise StartupError("a client needs a client_secret, or a refresh_token, or both")
    return OAuthSecret(
        token_url,
        client_id,
        client_auth="body" if client_auth == "body" else "basic",
        scope=scope,
        client_secret=given.get("client_secret", ""),
        refresh_token=given.get("refresh_token", ""),
    )


async def _set(place: Place, purpose: Purpose, header: str, secret: Secret) -> None:
    store = _store(place)
    async with place.database() as database:
        await store.put(database, purpose, header, secret)
        known = await find_subscriber(database, purpose.subscriber)
    click.echo(f"stored for {' '.join(purpose)}")
    if known is None:
        click.echo(f"Warning: there is no subscriber {purpose.subscriber} yet: `sovren-edge subscriber add`", err=True)


async def _list(place: Place, subscriber: str) -> list[dict[str, object]]:
    async with place.database() as database:
        rows = await list_credentials(database, subscriber)
    return [{**row, "updated_at": row["updated_at"].isoformat(timespec="seconds")} for row in rows]


async def _remove(place: Place, purpose: Purpose) -> None:
    async with place.database() as database:
        if not await remove_credential(database, purpose):
            raise StartupError(f"nothing is stored for {' '.join(purpose)}")
    click.echo(f"removed for {' '.join(purpose)}")


async def _rotate(place: Place) -> rotation.Rotation:
    store = _store(place)
    async with place.database() as database:
        return await rotation.rotate(database, store)
