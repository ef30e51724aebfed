"""Owns that a row which was written is durable: in PostgreSQL, or in the journal until PostgreSQL has it.

Rows are written in groups: the next group as soon as the last one's commit has returned. A group that PostgreSQL does
not acknowledge in time goes to the journal; it may reach both, which changes nothing. While the journal holds anything,
all goes there, and it is replayed in the background. Must not know what rows mean.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice

from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.ledger.frames import JournalError
from sovren_edge.gateway.ledger.journal import Journal
from sovren_edge.gateway.ledger.rows import Row, encode, group
from sovren_edge.gateway.tasks import lasting
from sovren_edge.store.database import Database
from sovren_edge.store.steady import Steady, open_steady

# PostgreSQL must acknowledge a group within this.
ACKNOWLEDGED_S = 0.25
# Rows of one group, and records that are replayed at once.
GROUP_MOST, REPLAYED_MOST = 500, 1000
RETRY_S = 1.0

# One statement is one transaction, and one round trip.
_WRITE = """
WITH requests AS (
    INSERT INTO api_requests
    SELECT * FROM jsonb_populate_recordset(NULL::api_requests, $1::jsonb)
    ON CONFLICT (created_at, request_id) DO UPDATE SET
        settled_at = excluded.settled_at, owner = excluded.owner, decision = excluded.decision,
        reason = excluded.reason, would_deny = excluded.would_deny, grant_charged = excluded.grant_charged,
        granted_us = excluded.granted_us, clock = excluded.clock, idempotent_replay = excluded.idempotent_replay,
        attempts = excluded.attempts, resolved_ip = excluded.resolved_ip, status = excluded.status,
        upstream_status = excluded.upstream_status, dns_ms = excluded.dns_ms, connect_ms = excluded.connect_ms,
        ttfb_ms = excluded.ttfb_ms, total_ms = excluded.total_ms,
        bytes_in = excluded.bytes_in, bytes_out = excluded.bytes_out
    WHERE (api_requests.settled_at IS NULL AND (excluded.settled_at IS NOT NULL
        OR excluded.attempts > api_requests.attempts))
    OR (api_requests.decision = 'unknown' AND excluded.decision = 'settled')
), costs AS (
    INSERT INTO api_costs SELECT * FROM jsonb_populate_recordset(NULL::api_costs, $2::jsonb)
    ON CONFLICT (request_id) DO NOTHING
)
SELECT 1
"""


def unwritable() -> EdgeError:
    """Return the error of a caller whose request cannot be recorded."""
    return EdgeError(503, "ledger_unavailable", "Requests cannot be recorded at the moment.", retry_after_s=5)


async def apply(on: Database | Steady, records: Sequence[bytes]) -> None:
    """Write records in one transaction; raises EdgeError 503 while the database is away."""
    written = group(records)
    await on.execute(_WRITE, written.requests, written.costs)


class Ledger:
    """Writes rows; made by `open_ledger`."""

    def __init__(self, database: Steady, journal: Journal, log: FilteringBoundLogger) -> None:
        self._database = database
        self._journal = journal
        self._log = log
        self._waiting: list[tuple[Sequence[bytes], asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        # Held by whoever appends to the journal, or empties it.
        self._lock = asyncio.Lock()
        self.journaling = True

    @property
    def waiting(self) -> int:
        """How many rows are not being written yet."""
        return sum(len(records) for records, _ in self._waiting)

    async def write(self, *rows: Row) -> None:
        """Return when rows are durable; raises EdgeError 503 if they cannot be."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(([encode(row) for row in rows], written))
        self._wake.set()
        await written

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Write until cancelled; what PostgreSQL does not acknowledge in time is left to itself, among the tasks."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                taken, self._waiting = self._waiting[:GROUP_MOST], self._waiting[GROUP_MOST:]
                records = [record for each, _ in taken for record in each]
                durable = (not self.journaling and await self._commit(records, tasks)) or await self._keep(records)
                _tell((written for _, written in taken), durable=durable)

    async def _keep(self, records: list[bytes]) -> bool:
        """Write to the journal; return whether that is durable."""
        async with self._lock:
            try:
                await asyncio.to_thread(self._journal.append, records)
            except JournalError as error:
                self._log.error("journal_closed", why=str(error))
                return False
            if not self.journaling:
                self.journaling = True
                self._log.warning("ledger_journaling")
        return True

    async def _commit(self, records: list[bytes], tasks: asyncio.TaskGroup) -> bool:
        """Write to PostgreSQL; return whether that was acknowledged in time."""
        committing = tasks.create_task(self._try(records))
        done, _ = await asyncio.wait({committing}, timeout=ACKNOWLEDGED_S)
        return bool(done) and committing.result()

    async def _try(self, records: Sequence[bytes]) -> bool:
        try:
            await apply(self._database, records)
        except EdgeError:
            return False
        except Exception:  # noqa: BLE001 - whatever PostgreSQL has against them, the journal keeps them
            self._log.exception("ledger_refused", records=len(records))
            return False
        return True

    async def replay(self) -> None:
        """Bring what stands in the journal to PostgreSQL, whenever there is something, until cancelled."""
        while True:
            if self.journaling and await self._replay():
                self._log.info("ledger_replayed")
            await asyncio.sleep(RETRY_S)

    async def _replay(self) -> bool:
        """Empty the journal; return whether that is done."""
        if not await self._drain(self._journal.records()):
            return False
        read_to = self._journal.read_to
        async with self._lock:
            # Nobody appends now: what came meanwhile is the rest. A pass that has ended yields nothing more.
            if not await self._drain(self._journal.records(read_to)):
                return False
            try:
                await asyncio.to_thread(self._journal.reset)
            except JournalError as error:
                # All of it is in PostgreSQL, which is enough as long as that is there; the file takes no more.
                self._log.error("journal_closed", why=str(error))
            self.journaling = False
        return True

    async def _drain(self, records: Iterator[bytes]) -> bool:
        while part := await asyncio.to_thread(lambda: list(islice(records, REPLAYED_MOST))):
            if not await self._try(part):
                return False
        return True


def _tell(waiting: "Iterable[asyncio.Future[None]]", *, durable: bool) -> None:
    for written in waiting:
        if written.done():
            continue  # nobody waits for it any more
        if durable:
            written.set_result(None)
        else:
            written.set_exception(unwritable())


@asynccontextmanager
async def open_ledger(database: Database, journal: Journal, log: FilteringBoundLogger) -> AsyncIterator[Ledger]:
    """Write rows until the block ends; what stands in the journal already is replayed first."""
    async with open_steady(database.session) as steady, asyncio.TaskGroup() as tasks:
        ledger = Ledger(steady, journal, log)
        running = [tasks.create_task(ledger.run(tasks)), tasks.create_task(lasting(ledger.replay, log))]
        try:
            yield ledger
        finally:
            for task in running:
                task.cancel()
