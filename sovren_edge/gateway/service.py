"""Owns what the gateway is made of, and its life: composed here and nowhere else.

Must not know ports, nor how its configuration was read.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

from pydantic import SecretStr

from sovren_edge.errors import EdgeError, StartupError
from sovren_edge.gateway.clocks import boot_clock, boot_us
from sovren_edge.gateway.counts import Counts
from sovren_edge.gateway.credentials.credentials import open_credentials
from sovren_edge.gateway.credentials.sealing import make_sealer
from sovren_edge.gateway.egress.client import Egress, open_egress
from sovren_edge.gateway.egress.resolver import Resolver
from sovren_edge.gateway.gauges import show_ledger, show_limiter, show_money_and_keys, show_shared_limiter
from sovren_edge.gateway.ledger.adoption import Adoption
from sovren_edge.gateway.ledger.frames import JournalError
from sovren_edge.gateway.ledger.idempotency import open_idempotency
from sovren_edge.gateway.ledger.journal import FOLDER, SUFFIX, Journal, open_journal
from sovren_edge.gateway.ledger.ledger import Ledger, open_ledger
from sovren_edge.gateway.ledger.owners import Owners, open_owners
from sovren_edge.gateway.ledger.partitions import keep
from sovren_edge.gateway.limit.grants import Grants, LocalGrants
from sovren_edge.gateway.limit.limiter import Limiter
from sovren_edge.gateway.limit.seeding import seed_local
from sovren_edge.gateway.limit.shared_grants import open_shared_grants
from sovren_edge.gateway.money.budgets import open_budgets
from sovren_edge.gateway.money.prices import Prices
from sovren_edge.gateway.proxy.bodies import MOST_BYTES, Bodies
from sovren_edge.gateway.proxy.proxy import Proxy
from sovren_edge.gateway.proxy.recording import Recording
from sovren_edge.gateway.proxy.refusals import REFUSED_MOST
from sovren_edge.gateway.proxy.sending import Sending
from sovren_edge.gateway.settings import GatewaySettings
from sovren_edge.gateway.subscribers import Subscribers
from sovren_edge.gateway.tasks import Tasks, open_tasks
from sovren_edge.gateway.usage.usage import usage_routes
from sovren_edge.handler import Edge, Handler, Routes, route
from sovren_edge.store.database import Database

HOUR_US = 3_600_000_000
FLUSH_S, FOUNDER_S, ADOPT_S, SWEEP_S = 10.0, 5.0, 60.0, 1.0
# Subscribers that are looked at in one step of a sweep.
SWEPT = 250
MOVED = "{} are served on port 8250 now; this port is the gateway to external APIs."


class Gateway(Handler):
    """Send requests to external APIs on behalf of subscribers: whitelisted hosts, so many an hour, all recorded."""

    migrations: ClassVar[str | None] = "sovren_edge.gateway.migrations"
    # Rows can wait in the journal: whether they can is what /ready asks.
    needs_database: ClassVar[bool] = False
    moved: ClassVar[Mapping[str, str]] = {
        "/executives": MOVED.format("Executives"),
        "/deliberations": MOVED.format("Deliberations"),
    }
    body_limit: ClassVar[int] = MOST_BYTES
    # Bodies go on as they come.
    decompress: ClassVar[bool] = False

    settings: GatewaySettings
    state_dir: Path

    @asynccontextmanager
    async def open(self, edge: Edge) -> AsyncIterator[Routes]:
        """Serve; PostgreSQL may be away, and Redis, and then callers are told so."""
        async with AsyncExitStack() as stack:
            yield await _compose(self.settings, self.state_dir / FOLDER, edge, stack)


async def _compose(settings: GatewaySettings, folder: Path, edge: Edge, stack: AsyncExitStack) -> Routes:
    """Open everything, in the order in which each needs those before it; it ends in the reverse order."""
    enter, log, clock = stack.enter_async_context, edge.log, edge.clock
    kept = await _open_ledger(settings, folder, edge, stack)
    tasks = await enter(open_tasks(log))
    subscribers = Subscribers(kept.database, tasks.spawn, clock.monotonic)
    means = Means(settings, kept, subscribers, tasks, edge)
    grants = await (_local_grants(means) if settings.redis is None else enter(_shared_grants(means, settings.redis)))
    sending = await _open_sending(means, grants, stack)
    recording = Recording(
        owner=kept.owner, clock_name=grants.clock, services=settings.services, clock=clock, ledger=kept.ledger,
        sending=sending, budgets=sending.budgets, prices=sending.prices, refusals=_granting(REFUSED_MOST),
        counts=Counts(edge.metrics), log=log,
    )  # fmt: skip
    stack.push_async_callback(_flush_all, recording)
    tasks.keep(partial(_flush, recording))
    tasks.keep(partial(_sweep, recording.refusals))
    tasks.keep(partial(keep, kept.database, timedelta(days=settings.retention_days), clock.now, log))
    tasks.keep(partial(_add_founder, subscribers, settings.founder_hourly_limit))
    tasks.keep(partial(kept.adoption.adopt_now_and_then, ADOPT_S))
    # Requests end before anything that they need.
    finishing = await enter(open_tasks(log))
    proxy = Proxy(
        edge=edge, settings=settings, subscribers=subscribers, credentials=sending.credentials,
        idempotency=sending.idempotency, bodies=Bodies(), sending=sending, recording=recording, spawn=finishing.spawn,
    )  # fmt: skip
    usage = usage_routes(
        edge=edge, database=kept.database, grants=grants, subscribers=subscribers, budgets=sending.budgets,
        complete=lambda: not kept.ledger.journaling,
    )  # fmt: skip
    return [route.post("/proxy/{subscriber_id}/{service}", proxy.proxy), *usage]


@dataclass(frozen=True, slots=True)
class Kept:
    """What rows are kept with, in the name of this process, `owner`."""

    owner: str
    database: Database
    adoption: Adoption
    ledger: Ledger
    owners: Owners


@dataclass(frozen=True, slots=True)
class Means:
    """What most parts are made with."""

    settings: GatewaySettings
    kept: Kept
    subscribers: Subscribers
    tasks: Tasks
    edge: Edge


async def _open_ledger(settings: GatewaySettings, folder: Path, edge: Edge, stack: AsyncExitStack) -> Kept:
    """Have rows durable from now on, whether or not PostgreSQL is there."""
    enter, log = stack.enter_async_context, edge.log
    owner = f"{edge.name}@{socket.gethostname()}:{uuid4().hex}"
    database = await enter(edge.database())
    adoption = Adoption(folder, database, log)
    journal = await enter(_journal(folder, owner, settings.journal_bytes))
    await _adopt(adoption)
    ledger = await enter(open_ledger(database, journal, log))
    owners = await enter(open_owners(database, owner, lambda: not ledger.journaling and adoption.complete, log))
    edge.depends("ledger", lambda: not journal.closed or (owners.reached and not ledger.journaling))
    show_ledger(edge.metrics, ledger=ledger, journal=journal, adoption=adoption, owners=owners)
    return Kept(owner, database, adoption, ledger, owners)


async def _open_sending(means: Means, grants: Grants, stack: AsyncExitStack) -> Sending:
    """Have what requests are sent, priced and authenticated with."""
    enter, log = stack.enter_async_context, means.edge.log
    settings, database = means.settings, means.kept.database
    sealer = make_sealer(settings.credential_keys)
    egress = await enter(_way_out(settings))
    credentials = await enter(open_credentials(database, egress, sealer, log))
    idempotency = await enter(open_idempotency(database, sealer, means.kept.owner, log))
    budgets = await enter(open_budgets(settings.budgets, database, means.edge.clock.now, log))
    show_money_and_keys(means.edge.metrics, budgets=budgets, credentials=credentials, idempotency=idempotency)
    return Sending(
        egress=egress,
        grants=grants,
        ledger=means.kept.ledger,
        budgets=budgets,
        prices=Prices(settings.price_version, settings.prices),
        credentials=credentials,
        idempotency=idempotency,
        clock=means.edge.clock,
    )


async def _local_grants(means: Means) -> Grants:
    """Grant in this process's memory, once it knows what was granted within the last hour."""
    limiter = Limiter(means.settings.hourly_limit, HOUR_US, means.subscribers.limits)
    means.edge.depends("limiter", lambda: limiter.seeded)
    show_limiter(means.edge.metrics, limiter)
    means.tasks.keep(partial(_sweep, limiter))
    clock, adopt = boot_clock(), means.kept.adoption.adopt
    seed = partial(seed_local, limiter, means.kept.database, adopt, window_us=HOUR_US, clock=clock, now_us=boot_us)
    means.tasks.keep(seed)
    return LocalGrants(limiter, boot_us, clock)


@asynccontextmanager
async def _shared_grants(means: Means, url: SecretStr) -> AsyncIterator[Grants]:
    """Grant in Redis."""
    async with open_shared_grants(
        url.get_secret_value(), means.settings.hourly_limit, means.subscribers.limits, database=means.kept.database,
        owners=means.kept.owners, log=means.edge.log,
    ) as grants:  # fmt: skip
        means.edge.depends("limiter", lambda: grants.seeded)
        show_shared_limiter(means.edge.metrics, grants)
        yield grants


@asynccontextmanager
async def _journal(folder: Path, owner: str, size: int) -> AsyncIterator[Journal]:
    """Hold a journal of this process alone; one in which nothing is left goes at the end."""
    path = folder / f"{owner.rpartition(':')[2]}{SUFFIX}"

    def opened() -> Journal:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open_journal(path, owner=owner, size=size)

    try:
        journal = await asyncio.to_thread(opened)
    except (JournalError, OSError) as error:
        raise StartupError(f"the gateway's journal cannot be kept: {error}") from None
    with journal:
        yield journal
        if not journal.used_bytes:
            with suppress(JournalError):
                await asyncio.to_thread(journal.remove)


async def _adopt(adoption: Adoption) -> None:
    """Bring what earlier processes left to PostgreSQL, if it is there; one that cannot be read stops the start."""
    try:
        await adoption.adopt()
    except JournalError as error:
        raise StartupError(str(error)) from None


def _way_out(settings: GatewaySettings) -> AbstractAsyncContextManager[Egress]:
    stage = settings.rehearsal
    if stage is None:
        return open_egress(Resolver())
    tls = None if stage.authority is None else ssl.create_default_context(cafile=stage.authority)
    return open_egress(Resolver(stage.dns, stage.networks), tls=tls, port=stage.port)


def _granting(limit: int) -> Limiter:
    limiter = Limiter(limit, HOUR_US)
    limiter.finish_seeding()
    return limiter


async def _sweep(limiter: Limiter) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        limiter.sweep(boot_us(), SWEPT)


async def _flush(recording: Recording) -> None:
    while True:
        await asyncio.sleep(FLUSH_S)
        with suppress(EdgeError):
            await recording.flush()


async def _flush_all(recording: Recording) -> None:
    with suppress(EdgeError):
        await recording.flush(everything=True)


async def _add_founder(subscribers: Subscribers, hourly_limit: int | None) -> None:
    while True:
        with suppress(EdgeError):
            return await subscribers.add_founder(hourly_limit)
        await asyncio.sleep(FOUNDER_S)
