"""Owns grants that several processes share: each decision is one script in Redis, and one round trip.

It fails closed: when Redis does not answer, or is not seeded, nobody is granted anything. A grant's id makes every call
repeatable. Right before a request is dialled, its grant is asked for again with its id and time: if Redis has lost it
with an older epoch, it is counted in the present one, or the request is not sent. So of what is dialled, nothing was
granted by a Redis that is gone, unless its row was durable before that. Must not know what Redis is seeded from.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.ledger.owners import Owners
from sovren_edge.gateway.limit.grants import unavailable
from sovren_edge.gateway.limit.limiter import MOST_INFLIGHT, Crowded, Decision, Exceeded, Granted, NotSeeded, Quota
from sovren_edge.gateway.limit.notes import Notes
from sovren_edge.gateway.limit.redis_link import RedisLink, Reply, open_redis, word_of
from sovren_edge.gateway.limit.redis_scripts import END, GRANT, STATE, inflight_of, log_of
from sovren_edge.gateway.limit.redis_seeding import CLOCK, LAG_US, WINDOW_US, RedisSeeding
from sovren_edge.store.database import Database

# The end of a request in flight whose gateway has died.
LIFE_US = 120_000_000
# Ends that Redis did not take are told again after this; more are forgotten, and stay charged.
PAY_S = 1.0
MOST_OWED = 10_000

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Debt:
    refund: bool
    told: "asyncio.Future[Reply]"


class SharedGrants:
    """Grants in Redis; `limits` names subscribers whose limit is not everybody's `limit()`; both may change.

    `absent` tells whether other processes may take this one for gone; `cold` is called when Redis is not seeded.
    """

    clock = CLOCK

    def __init__(
        self,
        link: RedisLink,
        limit: Callable[[], int],
        limits: Mapping[str, int],
        *,
        absent: Callable[[], bool],
        cold: Callable[[], None],
    ) -> None:
        self._link = link
        self._limit = limit
        self._limits = limits
        self._absent = absent
        self._cold = cold
        self._open: set[Key] = set()
        # Ended, and Redis has not said yet that it knows.
        self._owed: dict[Key, _Debt] = {}
        self._notes = Notes()
        # Whether grants could be had when it was last asked.
        self.seeded = False

    async def grant(self, subscriber: str, grant_id: str) -> Decision:
        """Decide whether to send; the same id again is the same grant. Raises EdgeError 503 if nobody can tell."""
        if (noted := self.noted(subscriber)) is not None:
            return noted
        return await self._decide(subscriber, grant_id, 0)

    async def confirm(self, subscriber: str, grant_id: str, granted: Granted) -> Decision:
        """Return the grant as it stands now; if it is gone it is asked for again, and may be Exceeded."""
        return await self._decide(subscriber, grant_id, granted.at_us)

    async def settle(self, subscriber: str, grant_id: str) -> None:
        """Note that a request has ended, whose grant stays charged; never fails."""
        self._end(subscriber, grant_id, refund=False)

    async def refund(self, subscriber: str, grant_id: str) -> None:
        """Undo the grant of a request in flight that sent nothing; never fails, and is repeated until Redis has it."""
        self._end(subscriber, grant_id, refund=True)

    async def look(self, subscriber: str) -> Quota:
        """Return what a subscriber has used, and use nothing; raises EdgeError 503 if nobody can tell."""
        if (noted := self.noted(subscriber)) is not None:
            return noted.quota
        word, quota, _ = await self._ask(subscriber, "", 0)
        if quota is None:
            raise EdgeError(503, "limiter_not_seeded", f"The limiter is not seeded ({word}).", retry_after_s=5)
        return quota

    def noted(self, subscriber: str) -> Exceeded | Crowded | None:
        """Return a refusal of the last second, which `grant` would repeat; it asks nobody."""
        return self._notes.find(subscriber, self.now_us())

    def now_us(self) -> int:
        """Return what Redis's clock shows, in microseconds."""
        return self._link.now_us()

    @property
    def inflight(self) -> int:
        """How many requests of this process are in flight."""
        return len(self._open)

    @property
    def clock_steps(self) -> int:
        """How often Redis's clock was set forward, and grants were forgotten too early."""
        return self._link.clock.steps

    async def check(self) -> None:
        """See whether grants can be had; a Redis that is cold is noticed by this, also when nobody calls."""
        try:
            _, quota, _ = await self._ask("", "", 0)
        except EdgeError:
            self.seeded = False
        else:
            self.seeded = quota is not None and not self._absent()

    def pay(self) -> None:
        """Tell Redis again what it has not taken; call it now and then."""
        for key, debt in [*self._owed.items()]:
            if debt.told.done():
                self._tell_end(key, refund=debt.refund)

    async def _decide(self, subscriber: str, grant_id: str, at_us: int) -> Decision:
        if self._absent():
            return NotSeeded()
        key = (subscriber, grant_id)
        self._open.add(key)
        self._owed.pop(key, None)
        try:
            word, quota, granted_us = await self._ask(subscriber, grant_id, at_us)
        except BaseException:
            if not at_us:
                # Granted or not: nobody will send it, nor end it.
                self._end(subscriber, grant_id, refund=True)
            raise
        if quota is not None and word == "granted":
            return Granted(granted_us, quota)
        if not at_us:
            # One that was granted before stays to be ended: a Redis that is being seeded may have it from its row.
            self._open.discard(key)
        return NotSeeded() if quota is None else self._refused(subscriber, word, quota)

    async def _ask(self, subscriber: str, grant_id: str, at_us: int) -> tuple[str, Quota | None, int]:
        """Return Redis's word, the quota if it is seeded, and the time of the grant if there is one."""
        limit = self._limits.get(subscriber, self._limit())
        keys = (STATE, log_of(subscriber), inflight_of(subscriber))
        for _ in range(2):
            reply = await self._link.call(
                GRANT, keys, grant_id, at_us, limit, MOST_INFLIGHT, WINDOW_US, LAG_US, LIFE_US
            )
            word = word_of(reply)
            # Redis's clock has stepped forward, and its present is known from now on: the call was not too late.
            if word != "late":
                break
        else:
            raise unavailable()
        if word in {"cold", "lost"}:
            if word == "cold":
                self._cold()
            return word, None, 0
        _, _, at_us, used, next_us, full_us = map(int, (0, *reply[1:]))
        return word, Quota(limit, used, next_us, full_us), at_us

    def _refused(self, subscriber: str, word: str, quota: Quota) -> Exceeded | Crowded:
        decision = Exceeded(quota) if word == "exceeded" else Crowded(quota)
        self._notes.keep(subscriber, decision, self.now_us())
        return decision

    def _end(self, subscriber: str, grant_id: str, *, refund: bool) -> None:
        key = (subscriber, grant_id)
        if key in self._open:
            self._open.remove(key)
            self._notes.drop(subscriber)
            self._tell_end(key, refund=refund)

    def _tell_end(self, key: Key, *, refund: bool) -> None:
        subscriber, grant_id = key
        told = self._link.post(END, (log_of(subscriber), inflight_of(subscriber)), grant_id, int(refund))
        if key in self._owed or len(self._owed) < MOST_OWED:
            self._owed[key] = _Debt(refund, told)
            told.add_done_callback(lambda told: self._told(key, told))

    def _told(self, key: Key, told: "asyncio.Future[Reply]") -> None:
        debt = self._owed.get(key)
        if debt is not None and debt.told is told and not told.cancelled() and told.exception() is None:
            del self._owed[key]


@asynccontextmanager
async def open_shared_grants(
    url: str,
    limit: Callable[[], int],
    limits: Mapping[str, int],
    *,
    database: Database,
    owners: Owners,
    log: FilteringBoundLogger,
) -> AsyncIterator[SharedGrants]:
    """Grant by a Redis until the block ends; it and PostgreSQL may be away. Raises StartupError if it evicts keys."""
    async with open_redis(url, log) as link, asyncio.TaskGroup() as tasks:
        seeding = RedisSeeding(link, database, owners, log)
        grants = SharedGrants(link, limit, limits, absent=lambda: owners.absent, cold=seeding.begin)
        running = [tasks.create_task(seeding.run()), tasks.create_task(_pay(grants))]
        try:
            yield grants
        finally:
            for task in running:
                task.cancel()


async def _pay(grants: SharedGrants) -> None:
    while True:
        await grants.check()
        grants.pay()
        await asyncio.sleep(PAY_S)
