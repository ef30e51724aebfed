"""Owns what becomes of the journals of processes that are gone: brought to PostgreSQL, and removed.

Must not know what their records mean. Several processes may look at one folder: a journal is locked by whoever has it
in hand, and a record that is brought twice changes nothing.
"""

import asyncio
from itertools import islice
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.ledger.frames import FIRST_FRAME, JournalError
from sovren_edge.gateway.ledger.journal import (
    Journal,
    JournalInUseError,
    held_by_others,
    leftovers,
    open_journal,
)
from sovren_edge.gateway.ledger.ledger import REPLAYED_MOST, apply
from sovren_edge.store.database import Database

_CLOSE = "UPDATE owners SET closed_at = clock_timestamp() WHERE owner = $1 AND closed_at IS NULL"


class Adoption:
    """Adopts the journals of a folder that no process has open."""

    def __init__(self, folder: Path, database: Database, log: FilteringBoundLogger) -> None:
        self._folder = folder
        self._database = database
        self._log = log
        self._lock = asyncio.Lock()
        # Whether none was left when it was last looked.
        self.complete = False

    async def adopt(self) -> bool:
        """Replay and remove what there is; return whether nothing is left, which needs PostgreSQL.

        Raises JournalError for a journal that cannot be used, whether PostgreSQL is there or not.
        """
        async with self._lock:
            self.complete = False
            paths = await asyncio.to_thread(leftovers, self._folder)
            found = [await self._replayed(path) for path in paths]
            for each in found:
                if isinstance(each, JournalError):
                    raise each
            self.complete = all(found)
        return self.complete

    async def adopt_all(self, own: Path) -> bool:
        """Adopt what there is; return whether PostgreSQL has all that stands in other journals than this process's own.

        One that another process has open is that one's to empty. It is looked at first: what is let go of in this
        moment is adopted.
        """
        if await asyncio.to_thread(held_by_others, self._folder, own):
            return False
        return await self.adopt()

    async def _replayed(self, path: Path) -> bool | JournalError:
        """Return whether a journal is gone, or why it cannot be used: the others are adopted all the same."""
        try:
            with await _open(path) as journal:
                await self._replay(journal)
        except (EdgeError, JournalInUseError):
            return False
        except JournalError as error:
            return error
        return True

    async def _replay(self, journal: Journal) -> None:
        records, count = journal.records(), 0
        while part := await asyncio.to_thread(lambda: list(islice(records, REPLAYED_MOST))):
            await apply(self._database, part)
            count += len(part)
        # Before its file is gone: whoever has no journal and is not closed is waited for.
        await self._database.execute(_CLOSE, journal.owner)
        await asyncio.to_thread(journal.remove)
        self._log.info("journal_adopted", owner=journal.owner, records=count, torn_bytes=journal.torn_bytes)

    async def adopt_now_and_then(self, interval_s: float) -> None:
        """Adopt until cancelled; a journal that cannot be used is told once, and left."""
        told = ""
        while True:
            try:
                await self.adopt()
            except JournalError as error:
                if str(error) != told:
                    told = str(error)
                    self._log.error("journal_not_adopted", why=told)
            await asyncio.sleep(interval_s)


async def _open(path: Path) -> Journal:
    """Open a journal in a thread; who is cancelled meanwhile leaves none behind that is locked."""
    # A new owner's name would only be needed for a file that has none: nobody's.
    opening = asyncio.ensure_future(asyncio.to_thread(open_journal, path, owner="", size=FIRST_FRAME + 1))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await asyncio.wait({opening})
        if opening.exception() is None:
            opening.result().close()
        raise
