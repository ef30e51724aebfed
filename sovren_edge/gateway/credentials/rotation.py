"""Owns sealing credentials again when keys have changed, row by row, while the gateway uses and refreshes them.

Must not know who asks for it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.credentials.store import UNREADABLE, CredentialStore, Purpose
from sovren_edge.store.database import Database

# A row that is being refreshed is locked for as long as its server takes to answer.
WAIT_S, POLL_S = 30.0, 0.2


@dataclass(frozen=True, slots=True)
class Rotation:
    """How many were sealed again, which do not open and why, and which others were in use all along."""

    sealed: int
    unreadable: Mapping[Purpose, str]
    busy: Sequence[Purpose]


async def rotate(database: Database, store: CredentialStore) -> Rotation:
    """Seal under the first key all that is sealed under others."""
    sealed, unreadable = 0, dict[Purpose, str]()
    limit_s = asyncio.get_running_loop().time() + WAIT_S
    while left := [purpose for purpose in await store.old(database) if purpose not in unreadable]:
        for purpose in left:
            try:
                sealed += await _reseal(database, store, purpose)
            except EdgeError as error:
                if error.problem.reason != UNREADABLE:
                    raise
                unreadable[purpose] = error.problem.detail
        if asyncio.get_running_loop().time() > limit_s:
            break
        await asyncio.sleep(POLL_S)
    return Rotation(sealed, unreadable, left)


async def _reseal(database: Database, store: CredentialStore, purpose: Purpose) -> bool:
    """Seal one again; return whether that was done: others may have it locked, or have removed it."""
    async with database.transaction() as connection:
        stored = await store.lock(connection, purpose)
        if stored is None:
            return False
        await store.reseal(connection, stored)
        return True
