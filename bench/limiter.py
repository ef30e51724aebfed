"""Time the hourly limiter's decisions, and weigh it when 100,000 subscribers have each used their hour.

Prints both beside their marks, and exits with 1 if one is missed. No socket, no clock: only the limiter's Python.
"""

import gc
import itertools
import sys
import time
from collections.abc import Callable

import psutil
from timing import microseconds

from sovren_edge.gateway.limit.limiter import Limiter

LIMIT, WINDOW_US = 100, 3_600_000_000
SUBSCRIBERS = 100_000
MOST_US, MOST_MB, MOST_STEP_MS = 5.0, 250.0, 2.0
CALLS = 100_000
BUDGET = 250


def make_limiter() -> Limiter:
    """Make one that grants."""
    limiter = Limiter(lambda: LIMIT, WINDOW_US)
    limiter.finish_seeding()
    return limiter


def fill(limiter: Limiter, subscribers: list[str]) -> None:
    """Use every subscriber's hour, all at the same pace, which scatters their logs over the memory as life does."""
    now = WINDOW_US
    for turn in range(LIMIT):
        for subscriber in subscribers:
            now += 1
            limiter.grant(subscriber, b"id-%d" % turn, now)
            limiter.settle(subscriber, b"id-%d" % turn)


def decisions() -> dict[str, Callable[[], object]]:
    """Return what is timed; for the first, time goes on by what frees one place of a full log at each call."""
    limiter, times = make_limiter(), itertools.count(2 * WINDOW_US, WINDOW_US // LIMIT)
    full, now = make_limiter(), 2 * WINDOW_US - 1
    fill(full, ["full"])

    def allow() -> None:
        limiter.grant("busy", b"id", next(times))
        limiter.settle("busy", b"id")

    return {
        "granted with a full log, and settled": allow,
        "refused with a full log": lambda: full.grant("full", b"id", now),
        "look at a full log": lambda: full.look("full", now),
    }


def longest_sweep_ms(limiter: Limiter) -> float:
    """Forget everybody in steps; return the CPU time of the longest step."""
    longest, now = 0.0, 3 * WINDOW_US
    while len(limiter):
        began = time.process_time()
        limiter.sweep(now, BUDGET)
        longest = max(longest, time.process_time() - began)
    return longest * 1e3


def weigh() -> tuple[float, float]:
    """Return the megabytes of a limiter that is full of subscribers, and the milliseconds of a step of its sweep."""
    gc.collect()
    before = psutil.Process().memory_info().rss
    limiter = make_limiter()
    fill(limiter, [f"subscriber-{n:08d}" for n in range(SUBSCRIBERS)])
    gc.collect()
    return (psutil.Process().memory_info().rss - before) / 1e6, longest_sweep_ms(limiter)


def main() -> int:
    """Print the table; return 1 if a mark is missed."""
    rows = [(name, microseconds(work, CALLS), MOST_US, "µs") for name, work in decisions().items()]
    weight_mb, sweep_ms = weigh()
    rows.append((f"{SUBSCRIBERS} subscribers, full logs", weight_mb, MOST_MB, "MB"))
    rows.append((f"sweep of {BUDGET} subscribers, longest", sweep_ms, MOST_STEP_MS, "ms"))
    for name, figure, most, unit in rows:
        verdict = "" if figure <= most else "  missed"
        print(f"{name:40} {figure:8.2f} {unit}   at most {most:g} {unit}{verdict}", flush=True)
    return any(figure > most for _, figure, most, _ in rows)


if __name__ == "__main__":
    sys.exit(main())
