"""Owns the commands that say who may call the gateway, and how often.

Must not know how a limit is kept.
"""

import asyncio

import click

from sovren_edge.cli.options import json_option, subscriber_argument
from sovren_edge.cli.place import Place, in_place
from sovren_edge.cli.show import show_json, show_subscribers
from sovren_edge.errors import StartupError
from sovren_edge.gateway.credentials.store import list_credentials
from sovren_edge.gateway.settings import MOST_HOURLY
from sovren_edge.gateway.subscriber_store import (
    add_subscriber,
    find_subscriber,
    limit_subscriber,
    list_subscribers,
    remove_subscriber,
)
from sovren_edge.gateway.subscribers import FOUNDER

DEFAULT = "default"


@click.group()
def subscriber() -> None:
    """Say who may call the gateway, and how often; what is changed is in force within 30 s."""


@subscriber.command()
@subscriber_argument
@click.option("--hourly-limit", metavar="N", help="Requests an hour; otherwise as many as everybody.")
@in_place
def add(place: Place, *, subscriber: str, hourly_limit: str | None) -> None:
    """Add a subscriber; one that is there already stays, with its limit unless another one is given."""
    limit = None if hourly_limit is None else _read_limit(hourly_limit)
    if limit is not None:
        _refuse_founder(subscriber)
    asyncio.run(_add(place, subscriber, limit))


@subscriber.command("list")
@json_option
@in_place
def list_(place: Place, *, as_json: bool) -> None:
    """Print all subscribers, with the limits that are their own."""
    rows = asyncio.run(_list(place))
    if as_json:
        show_json(rows)
    else:
        show_subscribers(rows)


@subscriber.command()
@subscriber_argument
@in_place
def remove(place: Place, *, subscriber: str) -> None:
    """Let a subscriber call no more; what was recorded of it stays."""
    if subscriber == FOUNDER:
        raise StartupError("the founder is always a subscriber: the gateway adds him whenever it starts")
    asyncio.run(_remove(place, subscriber))


@subscriber.command()
@subscriber_argument
@click.argument("hourly_limit", metavar=f"N|{DEFAULT}")
@in_place
def limit(place: Place, *, subscriber: str, hourly_limit: str) -> None:
    """Set how many requests an hour a subscriber may send; `default` is as many as everybody."""
    _refuse_founder(subscriber)
    asyncio.run(_limit(place, subscriber, None if hourly_limit == DEFAULT else _read_limit(hourly_limit)))


def _refuse_founder(subscriber: str) -> None:
    if subscriber == FOUNDER:
        raise StartupError("the founder's limit is gateway.founder_hourly_limit, in the configuration")


def _read_limit(text: str) -> int:
    if not (
        text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_HOURLY)) and 1 <= int(text) <= MOST_HOURLY
    ):
        raise StartupError(f"a limit is 1 to {MOST_HOURLY} requests an hour")
    return int(text)


async def _add(place: Place, subscriber: str, limit: int | None) -> None:
    async with place.database() as database:
        before = await find_subscriber(database, subscriber)
        await add_subscriber(database, subscriber, limit)
    if before is None:
        click.echo(f"added {subscriber}: {_rate(place, limit)}")
    elif limit in {None, before["hourly_limit"]}:
        click.echo(f"nothing to do: {subscriber} is a subscriber already, {_rate(place, before['hourly_limit'])}")
    else:
        click.echo(f"{subscriber} was a subscriber already, and is limited anew: {_rate(place, limit)}")


async def _list(place: Place) -> list[dict[str, object]]:
    async with place.database() as database:
        rows = await list_subscribers(database)
    return [{**row, "created_at": row["created_at"].isoformat(timespec="seconds")} for row in rows]


async def _remove(place: Place, subscriber: str) -> None:
    async with place.database() as database:
        if not await remove_subscriber(database, subscriber):
            raise _unknown(subscriber)
        credentials = len(await list_credentials(database, subscriber))
    click.echo(f"removed {subscriber}; what was recorded of its requests stays in the ledger")
    if credentials:
        click.echo(f"Warning: {credentials} credentials of {subscriber} stay, see `sovren-edge credential`", err=True)


async def _limit(place: Place, subscriber: str, limit: int | None) -> None:
    async with place.database() as database:
        if not await limit_subscriber(database, subscriber, limit):
            raise _unknown(subscriber)
    click.echo(f"{subscriber}: {_rate(place, limit)}")


def _unknown(subscriber: str) -> StartupError:
    return StartupError(f"there is no subscriber {subscriber}")


def _rate(place: Place, limit: int | None) -> str:
    told = f"{limit or place.config.gateway.hourly_limit} requests an hour"
    return told if limit else f"{told}, as everybody"
