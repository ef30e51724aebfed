"""Owns how a cold Redis learns what was granted: from the ledger, by one process at a time.

What the Redis before it had granted, and was dialled, had a durable row: in PostgreSQL, or in its owner's journal. So
every owner must say after the cold was noticed that all it acknowledged is in PostgreSQL; then rows are read, with
their own ids and times. Otherwise, or with PostgreSQL away, nothing is granted until the whole of a window has passed
since then, and nothing can be forgotten. Must not know who asks for grants.
"""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.ledger.owners import Owners
from sovren_edge.gateway.limit.redis_link import RedisLink, word_of
from sovren_edge.gateway.limit.redis_scripts import BEGIN, FINISH, GUARD, RELEASE, SEED, STATE, log_of
from sovren_edge.gateway.limit.seeding import Present, Seed, read_seeds
from sovren_edge.store.database import Database

CLOCK = "redis"
WINDOW_US = 3_600_000_000
# How old a grant may be that is asked for again; no attempt takes so long to be dialled.
LAG_US = 60_000_000
KEPT_US = WINDOW_US + LAG_US
# Whoever seeds and dies is followed by another after this.
GUARD_MS = 10_000
RETRY_S = 0.25


class RedisSeeding:
    """Seeds Redis whenever it is found cold."""

    def __init__(self, link: RedisLink, database: Database, owners: Owners, log: FilteringBoundLogger) -> None:
        self._link = link
        self._database = database
        self._owners = owners
        self._log = log
        self._token = uuid4().hex
        self._wake = asyncio.Event()
        # The name of the cold that was noticed, and a moment after that.
        self._noticed: int | bytes = b""
        self._moment = 0
        self._awaited: list[str] | None = None
        # At the start nobody has asked yet.
        self.begin()

    def begin(self) -> None:
        """Seed Redis, since it is cold."""
        self._wake.set()

    async def run(self) -> None:
        """Seed whenever it is to be done, until cancelled."""
        while True:
            await self._wake.wait()
            try:
                if await self.seed():
                    self._wake.clear()
                    continue
            except EdgeError:
                # One of the two is away.
                pass
            await asyncio.sleep(RETRY_S)

    async def seed(self) -> bool:
        """Seed Redis if that can be done now; return whether it is seeded. Raises EdgeError 503."""
        reply = await self._link.call(BEGIN, (STATE, GUARD), self._token, GUARD_MS, uuid4().hex)
        word, now_us = word_of(reply), int(reply[1])
        if word != "begun":
            return word == "warm"
        cold_us, cold = int(reply[2]), reply[3]
        try:
            # When all has left the window there is nothing to be told.
            if now_us - cold_us < KEPT_US and not await self._tell_all(cold, now_us):
                return False
            finished = await self._link.call(FINISH, (STATE, GUARD), self._token)
        finally:
            self._link.post(RELEASE, (GUARD,), self._token)
        if word_of(finished) != "finished":
            return False
        self._log.warning("redis_seeded", cold_s=(now_us - cold_us) / 1e6)
        return True

    async def _tell_all(self, cold: int | bytes, now_us: int) -> bool:
        """Tell Redis what was granted; return whether all of it is told."""
        if not await self._all_is_known(cold):
            return False
        present = Present(CLOCK, now_us, datetime.now(UTC))
        async for seeds in read_seeds(self._database, present, KEPT_US):
            if not await self._tell(seeds):
                return False
        return True

    async def _all_is_known(self, cold: int | bytes) -> bool:
        """Return whether PostgreSQL has all rows of before this cold."""
        if self._noticed != cold:
            self._moment = await self._owners.moment()
            self._noticed, self._awaited = cold, None
        awaited = await self._owners.awaited(self._moment)
        if awaited != self._awaited:
            self._awaited = awaited
            self._log.warning("redis_cold", awaited=awaited)
        return not awaited and not self._owners.absent

    async def _tell(self, seeds: list[Seed]) -> bool:
        keys = [STATE, GUARD, *(log_of(seed.subscriber) for seed in seeds)]
        told = [part for seed in seeds for part in (seed.grant_id, seed.at_us)]
        reply = await self._link.call(SEED, keys, self._token, GUARD_MS, KEPT_US, *told)
        return word_of(reply) == "seeded"
