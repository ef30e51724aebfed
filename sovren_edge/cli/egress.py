"""Owns the commands that tell where the gateway may call, and why not.

Must not know how a request is sent.
"""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import orjson

from sovren_edge.cli.options import config_option, find_config, json_option, local_option
from sovren_edge.cli.show import show_json, show_networks
from sovren_edge.config.load import load_gateway
from sovren_edge.gateway.egress.addresses import NETWORKS
from sovren_edge.gateway.egress.policy import Denial, judge, read_target
from sovren_edge.gateway.egress.resolver import ResolveError, Resolver
from sovren_edge.gateway.settings import GatewaySettings


@click.group()
def egress() -> None:
    """Tell where the gateway may call."""


@egress.command()
@json_option
def networks(*, as_json: bool) -> None:
    """Print the networks that are never called, as for a firewall."""
    rows: list[dict[str, object]] = [{"network": str(network.addresses), "name": network.name} for network in NETWORKS]
    if as_json:
        show_json(rows)
    else:
        show_networks(rows)


@egress.command()
@click.argument("url")
@click.option("--service", required=True, metavar="NAME", help="The service that it would be called for.")
@click.option("--no-resolve", is_flag=True, help="Judge by the policy alone: ask no DNS.")
@config_option
@local_option
@json_option
def explain(url: str, service: str, path: Path | None, *, no_resolve: bool, local: bool, as_json: bool) -> None:
    """Say what would become of a request for URL; `-` reads URLs from standard input, one a line."""
    settings = load_gateway(find_config(path), local=local)
    urls = _lines() if url == "-" else iter([url])
    allowed = True
    for one in urls:
        verdict = _explain(settings, service, one, resolve=not no_resolve)
        allowed = allowed and bool(verdict["allowed"])
        click.echo(orjson.dumps(verdict).decode() if as_json else _sentence(verdict))
    sys.exit(0 if allowed or url == "-" else 1)


def _lines() -> Iterator[str]:
    """Yield lines as they came, but for their ends: a space or a carriage return belongs to the URL."""
    for line in sys.stdin.buffer:
        yield line.removesuffix(b"\n").decode("utf-8", "surrogateescape")


def _explain(settings: GatewaySettings, service: str, url: str, *, resolve: bool) -> dict[str, object]:
    target = read_target(url)
    denial = target if isinstance(target, Denial) else judge(target, service, settings.hosts)
    shown = url.encode("utf-8", "backslashreplace").decode()
    verdict: dict[str, object] = {"url": shown, "allowed": denial is None, "reason": denial.reason if denial else ""}
    if denial is not None:
        verdict["detail"] = denial.detail
    reports = service in settings.services and settings.services[service].mode == "report"
    if denial is not None and reports and not isinstance(target, Denial):
        verdict |= {"allowed": True, "would_deny": True}
    if resolve and verdict["allowed"] and not isinstance(target, Denial):
        verdict |= asyncio.run(_addresses(settings, target.host))
    return verdict


async def _addresses(settings: GatewaySettings, host: str) -> dict[str, object]:
    stage = settings.rehearsal
    resolver = Resolver() if stage is None else Resolver(stage.dns, stage.networks)
    try:
        return {"addresses": [str(address) for address in await resolver.resolve(host)]}
    except ResolveError as error:
        return {"allowed": False, "reason": error.reason, "detail": error.detail}


def _sentence(verdict: dict[str, object]) -> str:
    said = "allowed" if verdict["allowed"] else "refused"
    why = f" {verdict['reason']}: {verdict['detail']}" if verdict["reason"] else ""
    if verdict.get("would_deny"):
        said, why = "allowed (report only)", f" it would be refused,{why}"
    addresses = verdict.get("addresses")
    where = f" at {', '.join(map(str, addresses))}" if isinstance(addresses, list) else ""
    return f"{said}{where}{why}  {verdict['url']}"
