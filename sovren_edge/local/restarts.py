"""Owns when a process that died is started again, and the loop that does it.

Must not know what the process is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from sovren_edge.errors import StartupError

Report = Callable[[str, Mapping[str, object]], None]
"""Told what happened: an event in the past tense, and its fields."""

Life = Callable[[], Awaitable[int]]
"""Runs a process and returns its exit status."""

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 30.0
LONG_LIFE_S = 60.0


def next_delay(delay_s: float, lived_s: float) -> float:
    """Return how long to wait after a death, given the wait before that life (0 for the first)."""
    if delay_s == 0 or lived_s >= LONG_LIFE_S:
        return FIRST_DELAY_S
    return min(2 * delay_s, LONGEST_DELAY_S)


async def keep_running(name: str, lives: Iterable[Life], report: Report) -> None:
    """Run one life after another, each death followed by its delay."""
    clock = asyncio.get_running_loop().time
    delay_s = 0.0
    for live in lives:
        born_s = clock()
        death = await _death(live)
        lived_s = clock() - born_s
        delay_s = next_delay(delay_s, lived_s)
        report("local_process_died", {"name": name, **death, "lived_s": round(lived_s, 3), "restart_in_s": delay_s})
        await asyncio.sleep(delay_s)


async def _death(live: Life) -> dict[str, object]:
    try:
        return {"exit_status": await live()}
    except (StartupError, OSError) as error:
        return {"fault": str(error)}
