"""Time the handover of the hourly limiter's log to another process, with 100,000 subscribers at their limit.

Prints how long nobody grants, and how long the loop of either process stands still at most, beside their marks; exits
with 1 if one is missed. Real processes and a real channel; no HTTP, no database.
"""

import asyncio
import gc
import os
import socket
import sys
import time
from array import array
from functools import partial

import structlog
import uvloop

from sovren_edge.gateway.clocks import boot_clock, boot_us
from sovren_edge.gateway.handing import Page
from sovren_edge.gateway.limit.grants import LocalGrants
from sovren_edge.gateway.limit.limiter import Limiter
from sovren_edge.gateway.limit.present_grants import PresentGrants
from sovren_edge.gateway.succession import Estate, Succession
from sovren_edge.gateway.tasks import open_tasks
from sovren_edge.process.channel import Channel, channel_pair

LIMIT, WINDOW_US = 100, 3_600_000_000
SUBSCRIBERS, TOGETHER = 100_000, 1000
MOST_PAUSE_S, MOST_STILL_MS = 3.0, 10.0
TICK_S = 0.0005


def fill(limiter: Limiter) -> None:
    """Have everybody's hour used."""
    times = array("q", range(boot_us() - LIMIT, boot_us())).tobytes()
    for first in range(0, SUBSCRIBERS, TOGETHER):
        names = [f"subscriber-{number}" for number in range(first, first + TOGETHER)]
        limiter.take(Page({"subscribers": names, "counts": [LIMIT] * TOGETHER}, times * TOGETHER))
    limiter.finish_seeding()


async def longest_still(pauses: list[float]) -> None:
    """Note whenever the loop computed for longer than ever before between two chances of others, in ms of CPU time."""
    while True:
        began = time.thread_time()
        await asyncio.sleep(TICK_S)
        pauses[0] = max(pauses[0], (time.thread_time() - began) * 1000)


async def take_part(end: socket.socket, limiter: Limiter, *, retires: bool) -> tuple[float, float]:
    """Be one of the two; return for how many seconds nobody granted, and the loop's longest standstill in ms."""
    own = LocalGrants(limiter, boot_us, boot_clock())
    present, pauses, log = PresentGrants(own), [0.0], structlog.get_logger()
    async with open_tasks(log) as tasks:
        estate = Estate(name="gateway", own=own, log=limiter, parts={}, seed=lambda: None)
        succession = Succession(estate, present, tasks, log)
        tasks.keep(partial(longest_still, pauses))
        began = time.perf_counter()
        if retires:
            succession.begin()
            await asyncio.gather(succession.retire(partial(Channel, end)), present.look("subscriber-1"))
        else:
            await succession.succeed(partial(Channel, end))
        took_s = time.perf_counter() - began
        # The other one has yet to ask.
        await asyncio.sleep(0.2)
        succession.close()
    return took_s, pauses[0]


def main() -> None:
    """Hand over, and judge."""
    ours, theirs = channel_pair()
    limiter = Limiter(lambda: LIMIT, WINDOW_US)
    failed = False
    # As in a worker: what lives as long as the process is not looked at again.
    gc.freeze()
    child = os.fork()
    if child == 0:
        ours.close()
        _, still_ms = uvloop.run(take_part(theirs, limiter, retires=False))
        whole = (len(limiter), limiter.entries) == (SUBSCRIBERS, SUBSCRIBERS * LIMIT)
        print(f"newer process: longest standstill {still_ms:.1f} ms (at most {MOST_STILL_MS:.0f}), whole: {whole}")
        sys.stdout.flush()
        os._exit(not whole or still_ms > MOST_STILL_MS)
    theirs.close()
    fill(limiter)
    pause_s, still_ms = uvloop.run(take_part(ours, limiter, retires=True))
    print(f"older process: longest standstill {still_ms:.1f} ms (at most {MOST_STILL_MS:.0f})")
    print(f"nobody grants for {pause_s:.2f} s (at most {MOST_PAUSE_S:.0f})")
    failed = bool(os.waitpid(child, 0)[1]) or still_ms > MOST_STILL_MS or pause_s > MOST_PAUSE_S
    sys.exit(failed)


if __name__ == "__main__":
    main()
