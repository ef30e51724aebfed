"""Owns budgets in a running process: who may still spend, and that a part of a budget that is spent is told once.

What is spent is read from PostgreSQL when a subscriber is first met, and behind it again every few seconds for those
who spend; between, and while PostgreSQL is away, this process's own costs are added. So a hard budget is exceeded by
nothing that this process sends, where prices are of requests. Several processes see what the others have spent within
REREAD_S of their own first request, if PostgreSQL has it: they exceed it by no more than they send in that time.

Must not know requests, grants or how costs are reckoned and written.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError, Side
from sovren_edge.gateway.handing import Page
from sovren_edge.gateway.ledger.rows import CostRow
from sovren_edge.gateway.money.accounts import THRESHOLDS, Account, Span
from sovren_edge.gateway.settings import BudgetSettings
from sovren_edge.gateway.tasks import lasting
from sovren_edge.store.database import Database

# Everybody's budget who has none of its own.
DEFAULT = "default"
# How often PostgreSQL is read for those who spend, and for how many of them at once, those first who wait for longest.
REREAD_S, READ_MOST = 5.0, 100
# Who is quiet for so long is forgotten.
QUIET = timedelta(hours=1)

_SPENT = """
SELECT coalesce(sum(cost.amount_microusd), 0)::bigint AS spent
FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[])
    WITH ORDINALITY AS asked (subscriber_id, since, until, place)
LEFT JOIN api_costs cost
    ON cost.subscriber_id = asked.subscriber_id AND cost.created_at >= asked.since AND cost.created_at < asked.until
GROUP BY asked.place ORDER BY asked.place
"""
_FOUND = "SELECT request_id FROM api_costs WHERE request_id = ANY($1::uuid[])"
_TELL = """
INSERT INTO budget_alerts
    (subscriber_id, period, period_start, threshold_percent, budget_microusd, spent_microusd)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING true
"""


@dataclass(frozen=True, slots=True)
class Hold:
    """What one request in flight is expected to cost, until it is given to `settle`, once."""

    subscriber: str
    account: Account
    amount_microusd: int


@dataclass(frozen=True, slots=True)
class _Alert:
    subscriber: str
    budget: BudgetSettings
    span: Span
    threshold: int
    spent_microusd: int


class Budgets:
    """Knows what is spent; made by `open_budgets`. `told` counts alerts by their threshold, in percent."""

    def __init__(
        self,
        settings: Callable[[], Mapping[str, BudgetSettings]],
        database: Database,
        now: Callable[[], datetime],
        log: FilteringBoundLogger,
    ) -> None:
        self._settings = settings
        self._database = database
        self._now = now
        self._log = log
        # The one used last at the end, each with the time of its use.
        self._accounts: OrderedDict[str, tuple[Account, datetime]] = OrderedDict()
        self._first: dict[str, asyncio.Future[None]] = {}
        # Those to read again, the longest unread first.
        self._stale: dict[str, None] = {}
        self._alerts: list[_Alert] = []
        self._wake = asyncio.Event()
        self.told = dict.fromkeys(THRESHOLDS, 0)

    async def hold(self, subscriber: str, expected_microusd: int) -> Hold | None:
        """Set aside what a request is expected to cost, None if there is no budget.

        Raises EdgeError 429 `budget_exhausted`; and 503 where a hard budget is first met while PostgreSQL is away.
        """
        account = self._use(subscriber)
        if account is None:
            return None
        if account.budget.hard_microusd is not None and not account.known:
            await self._read_first(subscriber)
            account.turn(self._now())
        refused_for_s = account.refused_for_s(expected_microusd, self._now())
        if refused_for_s is not None:
            raise _exhausted(account, refused_for_s)
        account.hold(expected_microusd)
        return Hold(subscriber, account, expected_microusd)

    def settle(self, hold: Hold | None, cost: CostRow | None) -> None:
        """End a hold, and count what the request has cost, if anything; called once, before the cost is written."""
        if hold is None:
            return
        hold.account.release(hold.amount_microusd)
        if cost is not None:
            self._spend(hold.subscriber, cost)

    async def look(self, subscriber: str) -> Account | None:
        """Return a subscriber's account, None if there is no budget; raises EdgeError 503 if nobody can tell."""
        account = self._use(subscriber)
        if account is None:
            return None
        if not account.known:
            await self._read_first(subscriber)
            account.turn(self._now())
        return account

    def _use(self, subscriber: str) -> Account | None:
        """Return a subscriber's account in the present period, and have it read again soon."""
        budget = self._budget(subscriber)
        if budget is None:
            self._drop(subscriber)
            return None
        now = self._now()
        account = self._accounts[subscriber][0] if subscriber in self._accounts else Account(budget, now)
        account.go_by(budget, now)
        account.turn(now)
        self._accounts[subscriber] = account, now
        self._accounts.move_to_end(subscriber)
        self._stale.setdefault(subscriber)
        return account

    def _budget(self, subscriber: str) -> BudgetSettings | None:
        settings = self._settings()
        return settings.get(subscriber, settings.get(DEFAULT))

    def _drop(self, subscriber: str) -> None:
        self._accounts.pop(subscriber, None)
        self._stale.pop(subscriber, None)

    def pages(self) -> Iterator[Page]:
        """Yield what is known to be spent, for a process that cannot ask PostgreSQL; what is on hold is not told."""
        known = [(subscriber, account) for subscriber, (account, _) in self._accounts.items() if account.known]
        for first in range(0, len(known), READ_MOST):
            yield Page({"accounts": {name: account.tell() for name, account in known[first : first + READ_MOST]}})

    def take(self, page: Page) -> None:
        """Know it, until it is read."""
        for subscriber, told in page.given["accounts"].items():
            account = self._use(subscriber)
            if account is not None:
                account.learn(told)

    def _spend(self, subscriber: str, cost: CostRow) -> None:
        account = self._use(subscriber)
        if account is not None:
            account.spend(cost)
            self._note(subscriber, account)

    def _note(self, subscriber: str, account: Account) -> None:
        """Have it told if a threshold is reached."""
        if not account.known:
            return
        for threshold in account.reached():
            alert = _Alert(subscriber, account.budget, account.span, threshold, account.spent_microusd)
            self._alerts.append(alert)
            self._wake.set()

    async def _read_first(self, subscriber: str) -> None:
        """Return when an account is known; all who ask for it meanwhile share one reading."""
        if subscriber not in self._first:
            self._first[subscriber] = asyncio.get_running_loop().create_future()
            self._wake.set()
        await asyncio.shield(self._first[subscriber])

    async def run(self) -> None:
        """Read and tell until cancelled: one reading at a time, so that none overtakes a later one."""
        loop = asyncio.get_running_loop()
        again_at = loop.time() + REREAD_S
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(again_at):
                        await self._wake.wait()
                self._wake.clear()
                await self._read_waiting()
                if loop.time() >= again_at:
                    await self._read_stale()
                    self._forget()
                    again_at = loop.time() + REREAD_S
                await self._tell()
        finally:
            for waiting in self._first.values():
                waiting.cancel()

    async def _read_waiting(self) -> None:
        """Read whoever is waited for."""
        while taken := list(islice(self._first, READ_MOST)):
            try:
                await self._read(taken)
            except EdgeError as error:
                for subscriber in taken:
                    _fail(self._first.pop(subscriber), error)
            else:
                for subscriber in taken:
                    self._first.pop(subscriber).set_result(None)

    async def _read_stale(self) -> None:
        """Read some of those who were active since they were read last."""
        with suppress(EdgeError):
            await self._read(list(islice(self._stale, READ_MOST)))

    def _forget(self) -> None:
        """Forget who is quiet, and of whom PostgreSQL knows everything."""
        outdated = self._now() - QUIET
        while self._accounts:
            subscriber, (account, used_at) = next(iter(self._accounts.items()))
            if used_at > outdated:
                break
            if account.idle and subscriber not in self._first:
                self._drop(subscriber)
            else:
                self._use(subscriber)

    async def _read(self, waiting: Sequence[str]) -> None:
        # A budget may have gone meanwhile.
        subscribers = [subscriber for subscriber in waiting if subscriber in self._accounts]
        if not subscribers:
            return
        accounts = [self._accounts[subscriber][0] for subscriber in subscribers]
        spans = [account.span for account in accounts]
        unread = [account.unread() for account in accounts]
        since, until = [span.start for span in spans], [span.end for span in spans]
        async with self._database.snapshot() as connection:
            # At one moment: a cost is found and in the sum, or neither.
            sums = await connection.fetch(_SPENT, subscribers, since, until)
            own = [request_id for each in unread for request_id in each]
            found = {row["request_id"] for row in await connection.fetch(_FOUND, own)} if own else set()
        for subscriber, account, span, asked, row in zip(subscribers, accounts, spans, unread, sums, strict=True):
            account.read(span, row["spent"], found.intersection(asked))
            self._stale.pop(subscriber, None)
            if account.unread() and subscriber in self._accounts:
                self._stale[subscriber] = None
            self._note(subscriber, account)

    async def _tell(self) -> None:
        """Tell what is to be told, once among all processes; what cannot be written now is told later."""
        with suppress(EdgeError):
            while self._alerts:
                alert = self._alerts[0]
                what = (alert.subscriber, alert.budget.period, alert.span.start, alert.threshold)
                first = await self._database.fetchval(_TELL, *what, alert.budget.basis_microusd, alert.spent_microusd)
                del self._alerts[0]
                if first:
                    self.told[alert.threshold] += 1
                    self._log.warning(
                        "budget_reached",
                        subscriber=alert.subscriber,
                        percent=alert.threshold,
                        period=alert.budget.period,
                        period_start=alert.span.start.isoformat(),
                        budget_microusd=alert.budget.basis_microusd,
                        spent_microusd=alert.spent_microusd,
                    )


def _exhausted(account: Account, retry_after_s: int) -> EdgeError:
    period, end = account.budget.period, account.span.end
    detail = f"The budget of this {period} is used up, or in use; the next one begins at {end:%Y-%m-%dT%H:%MZ}."
    return EdgeError(429, "budget_exhausted", detail, side=Side.CALLER, retry_after_s=retry_after_s)


def _fail(waiting: "asyncio.Future[None]", error: EdgeError) -> None:
    waiting.set_exception(error)
    # Perhaps nobody waits any more.
    waiting.exception()


@asynccontextmanager
async def open_budgets(
    settings: Callable[[], Mapping[str, BudgetSettings]],
    database: Database,
    now: Callable[[], datetime],
    log: FilteringBoundLogger,
) -> AsyncIterator[Budgets]:
    """Know budgets until the block ends."""
    budgets = Budgets(settings, database, now, log)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(lasting(budgets.run, log))
        try:
            yield budgets
        finally:
            running.cancel()
