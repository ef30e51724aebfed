"""Owns what requests go by: the settings that may change while the gateway runs, and what is made of them.

A request goes by the same rules from its beginning to its end. Must not know requests, nor where settings come from.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from sovren_edge.gateway.credentials.sealing import Sealer, make_sealer
from sovren_edge.gateway.egress.client import Egress, open_egress
from sovren_edge.gateway.egress.resolver import Resolver
from sovren_edge.gateway.money.prices import Prices
from sovren_edge.gateway.settings import GatewaySettings


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one moment."""

    settings: GatewaySettings
    prices: Prices
    sealer: Sealer | None
    egress: Egress


class Rulebook:
    """The present rules; made by `open_rulebook`. Whatever depends on a setting reads it here."""

    def __init__(self, present: Rules, stack: AsyncExitStack) -> None:
        self.present = present
        self._stack = stack
        self._changed = asyncio.Event()

    async def change(self, settings: GatewaySettings) -> None:
        """Have other settings hold for all that begins from now on."""
        self.present = await _rules(settings, self.present, self._stack)
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self, since: Rules) -> None:
        """Return once other rules hold than these."""
        while self.present is since:
            await self._changed.wait()


@asynccontextmanager
async def open_rulebook(settings: GatewaySettings) -> AsyncIterator[Rulebook]:
    """Have rules until the block ends; what older ones need stays open as long, since requests may still use it."""
    async with AsyncExitStack() as stack:
        yield Rulebook(await _rules(settings, None, stack), stack)


async def _rules(settings: GatewaySettings, before: Rules | None, stack: AsyncExitStack) -> Rules:
    if before is not None and settings.rehearsal == before.settings.rehearsal:
        egress = before.egress
    else:
        egress = await stack.enter_async_context(_way_out(settings))
    prices = Prices(settings.price_version, settings.prices)
    return Rules(settings, prices, make_sealer(settings.credential_keys), egress)


def _way_out(settings: GatewaySettings) -> AbstractAsyncContextManager[Egress]:
    stage = settings.rehearsal
    if stage is None:
        return open_egress(Resolver())
    tls = None if stage.authority is None else ssl.create_default_context(cafile=stage.authority)
    return open_egress(Resolver(stage.dns, stage.networks), tls=tls, port=stage.port)
