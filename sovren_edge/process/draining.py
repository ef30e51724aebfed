"""Owns waiting for what is under way to end.

Must not know what that is.
"""

import asyncio
from collections.abc import Callable

POLL_S = 0.02
# Connections without a request are left alone for so long: whoever is just sending one would lose it.
IDLE_GRACE_S = 1.0


async def drained(
    busy: Callable[[], int], connections: Callable[[], int], close_idle: Callable[[], None], drain_s: float
) -> int:
    """Return once nothing is busy, or after `drain_s`, with how much still is; close idle connections meanwhile."""
    clock = asyncio.get_running_loop().time
    begun = clock()
    while busy() or connections():
        waited = clock() - begun
        if waited >= IDLE_GRACE_S:
            close_idle()
        if waited >= drain_s or (waited >= IDLE_GRACE_S and not busy()):
            break
        await asyncio.sleep(POLL_S)
    return busy()
