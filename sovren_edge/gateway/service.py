"""Owns what the gateway is made of, and its life: composed here and nowhere else.

Must not know ports, nor how its configuration was read.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
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
from sovren_edge.gateway.gauges import look_at, show_ledger, show_limiter, show_money_and_keys, show_shared_limiter
from sovren_edge.gateway.handing import Connect, Known
from sovren_edge.gateway.ledger.adoption import Adoption
from sovren_edge.gateway.ledger.frames import JournalError
from sovren_edge.gateway.ledger.idempotency import open_idempotency
from sovren_edge.gateway.ledger.journal import FOLDER, SUFFIX, Journal, open_journal
from sovren_edge.gateway.ledger.ledger import Ledger, open_ledger
from sovren_edge.gateway.ledger.owners import Owners, open_owners
from sovren_edge.gateway.ledger.partitions import keep
from sovren_edge.gateway.limit.grants import Grants, LocalGrants
from sovren_edge.gateway.limit.limiter import Limiter
from sovren_edge.gateway.limit.present_grants import PresentGrants
from sovren_edge.gateway.limit.seeding import seed_local
from sovren_edge.gateway.limit.shared_grants import SharedGrants, open_shared_grants
from sovren_edge.gateway.money.budgets import open_budgets
from sovren_edge.gateway.proxy.bodies import MOST_BYTES, Bodies
from sovren_edge.gateway.proxy.proxy import Proxy
from sovren_edge.gateway.proxy.recording import Recording
from sovren_edge.gateway.proxy.refusals import REFUSED_MOST
from sovren_edge.gateway.proxy.sending import Sending
from sovren_edge.gateway.rules import Rulebook, open_rulebook
from sovren_edge.gateway.settings import GatewaySettings
from sovren_edge.gateway.subscribers import Subscribers
from sovren_edge.gateway.succession import Estate, Succession
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
        """Serve, with no gateway before this one; PostgreSQL may be away, and Redis, and then callers are told so."""
        async with self.run(edge) as running:
            running.begin()
            yield running.routes

    @asynccontextmanager
    async def run(self, edge: Edge) -> AsyncIterator["RunningGateway"]:
        """Have everything ready; nothing is granted before the running gateway begins, or succeeds another."""
        async with AsyncExitStack() as stack:
            yield await _compose(self.settings, self.state_dir / FOLDER, edge, stack)


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """A gateway that is open: its routes, its place among those that succeed each other, and its rules."""

    routes: Routes
    _succession: Succession
    _rulebook: Rulebook
    _look: Callable[[], dict[str, object]]

    def begin(self) -> None:
        """Grant, with no gateway before this one."""
        self._succession.begin()

    async def succeed(self, connect: Connect) -> None:
        """Grant in the place of an older process, and return once what it knows has come; then callers may.

        `connect` makes a line to it that answers to the methods that it is given.
        """
        await self._succession.succeed(connect)

    async def retire(self, connect: Connect) -> None:
        """Grant no more: hand over to a newer process, and let it grant for what is still open here.

        While there is none, or it has died, whatever needs a grant is refused; call it again then.
        """
        await self._succession.retire(connect)

    async def reload(self, settings: GatewaySettings) -> None:
        """Have requests that begin from now on go by other settings; those that `replaces` are not looked at."""
        await self._rulebook.change(settings)

    def look(self) -> dict[str, object]:
        """Tell how it is doing, as JSON knows it."""
        return self._look()


async def _compose(settings: GatewaySettings, folder: Path, edge: Edge, stack: AsyncExitStack) -> RunningGateway:
    """Open everything, in the order in which each needs those before it; it ends in the reverse order."""
    enter, log, clock = stack.enter_async_context, edge.log, edge.clock
    kept = await _open_ledger(settings, folder, edge, stack)
    rulebook = await enter(open_rulebook(settings))
    tasks = await enter(open_tasks(log))
    subscribers = Subscribers(kept.database, tasks.spawn, clock.monotonic)
    means = Means(rulebook, kept, subscribers, tasks, edge)
    own = _local(means) if settings.redis is None else await enter(_shared(means, settings.redis))
    grants = PresentGrants(own.grants)
    sending = await _open_sending(means, grants, stack)
    parts: dict[str, Known] = {
        "subscribers": subscribers,
        "credentials": sending.credentials,
        "budgets": sending.budgets,
    }
    estate = Estate(name=edge.name, own=own.grants, log=own.log, parts=parts, seed=own.seed)
    succession = Succession(estate, grants, tasks, log)
    stack.callback(succession.close)
    recording = Recording(
        owner=kept.owner, clock_name=grants.clock, rulebook=rulebook, clock=clock, ledger=kept.ledger,
        sending=sending, budgets=sending.budgets, refusals=_granting(REFUSED_MOST), counts=Counts(edge.metrics),
        log=log,
    )  # fmt: skip
    stack.push_async_callback(_flush_all, recording)
    tasks.keep(partial(_flush, recording))
    tasks.keep(partial(_sweep, recording.refusals))
    tasks.keep(partial(keep, kept.database, lambda: _retention(rulebook), clock.now, log))
    tasks.keep(partial(_add_founder, subscribers, rulebook))
    tasks.keep(partial(kept.adoption.adopt_now_and_then, ADOPT_S))
    # Requests end before anything that they need.
    finishing = await enter(open_tasks(log))
    proxy = Proxy(
        edge=edge, subscribers=subscribers, credentials=sending.credentials,
        idempotency=sending.idempotency, bodies=Bodies(), sending=sending, recording=recording, spawn=finishing.spawn,
    )  # fmt: skip
    usage = usage_routes(
        edge=edge, database=kept.database, grants=grants, subscribers=subscribers, budgets=sending.budgets,
        complete=lambda: not kept.ledger.journaling,
    )  # fmt: skip
    routes = [route.post("/proxy/{subscriber_id}/{service}", proxy.proxy), *usage]
    look = partial(look_at, own.shown, kept.ledger, kept.journal, recording.counts)
    return RunningGateway(routes, succession, rulebook, look)


@dataclass(frozen=True, slots=True)
class Kept:
    """What rows are kept with, in the name of this process, `owner`."""

    owner: str
    database: Database
    journal: Journal
    adoption: Adoption
    ledger: Ledger
    owners: Owners


@dataclass(frozen=True, slots=True)
class Means:
    """What most parts are made with."""

    rulebook: Rulebook
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
    return Kept(owner, database, journal, adoption, ledger, owners)


async def _open_sending(means: Means, grants: Grants, stack: AsyncExitStack) -> Sending:
    """Have what requests are sent, priced and authenticated with."""
    enter, log = stack.enter_async_context, means.edge.log
    book, database = means.rulebook, means.kept.database
    credentials = await enter(open_credentials(database, lambda: book.present.egress, lambda: book.present.sealer, log))
    idempotency = await enter(open_idempotency(database, lambda: book.present.sealer, means.kept.owner, log))
    budgets = await enter(open_budgets(lambda: book.present.settings.budgets, database, means.edge.clock.now, log))
    show_money_and_keys(means.edge.metrics, budgets=budgets, credentials=credentials, idempotency=idempotency)
    return Sending(
        grants=grants,
        ledger=means.kept.ledger,
        budgets=budgets,
        credentials=credentials,
        idempotency=idempotency,
        clock=means.edge.clock,
    )


@dataclass(frozen=True, slots=True)
class Own:
    """Grants of this process: their log is its own, or they are Redis's, which learns by itself; what shows them."""

    grants: Grants
    log: Limiter | None
    shown: Limiter | SharedGrants
    seed: Callable[[], None]


def _local(means: Means) -> Own:
    """Grant in this process's memory."""
    limiter = Limiter(lambda: _hourly_limit(means.rulebook), HOUR_US, means.subscribers.limits)
    means.edge.depends("limiter", lambda: limiter.seeded)
    show_limiter(means.edge.metrics, limiter)
    means.tasks.keep(partial(_sweep, limiter))
    kept, clock = means.kept, boot_clock()
    adopt = partial(kept.adoption.adopt_all, kept.journal.path)
    seed = partial(seed_local, limiter, kept.database, adopt, window_us=HOUR_US, clock=clock, now_us=boot_us)
    return Own(LocalGrants(limiter, boot_us, clock), limiter, limiter, partial(means.tasks.keep, seed))


@asynccontextmanager
async def _shared(means: Means, url: SecretStr) -> AsyncIterator[Own]:
    """Grant in Redis."""
    async with open_shared_grants(
        url.get_secret_value(), lambda: _hourly_limit(means.rulebook), means.subscribers.limits,
        database=means.kept.database, owners=means.kept.owners, log=means.edge.log,
    ) as grants:  # fmt: skip
        means.edge.depends("limiter", lambda: grants.seeded)
        show_shared_limiter(means.edge.metrics, grants)
        yield Own(grants, None, grants, lambda: None)


def _hourly_limit(rulebook: Rulebook) -> int:
    return rulebook.present.settings.hourly_limit


def _retention(rulebook: Rulebook) -> timedelta:
    return timedelta(days=rulebook.present.settings.retention_days)


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


def _granting(limit: int) -> Limiter:
    limiter = Limiter(lambda: limit, HOUR_US)
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


async def _add_founder(subscribers: Subscribers, rulebook: Rulebook) -> None:
    """Make the founder a subscriber, whenever his limit may be another."""
    while True:
        rules = rulebook.present
        with suppress(EdgeError):
            await subscribers.add_founder(rules.settings.founder_hourly_limit)
            await rulebook.changed(rules)
            continue
        await asyncio.sleep(FOUNDER_S)
