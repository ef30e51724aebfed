"""Call an external API, directly or through the gateway, at random times; print what came of it as a line of JSON.

python callers_of_gateway.py PLAN.json: `url`, `headers` of each caller in turn, `rate` a second (0: each of `lanes`
connections asks again as soon as it is answered), `seconds`, `lanes`, `authority` (a file, or nothing), `seed`.
Latencies run from the planned moment to the last byte, in milliseconds; connections are kept alive.
"""

import asyncio
import itertools
import random
import ssl
import sys
import time
from pathlib import Path

import aiohttp
import orjson
import uvloop

BODY = b'{"text":"The board meets at nine."}'
TIMEOUT_S = 10


class Callers:
    """All callers of one run."""

    def __init__(self, plan: dict[str, object], session: aiohttp.ClientSession) -> None:
        self.plan = plan
        self.session = session
        self.given = itertools.cycle(plan["callers"])
        self.latencies_ms: list[float] = []
        self.statuses: dict[int, int] = {}

    async def ask(self, planned: float) -> None:
        """Send one request."""
        one = next(self.given)
        try:
            async with self.session.post(one["url"], data=BODY, headers=one["headers"]) as answer:
                await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            status = 0
        self.latencies_ms.append((time.perf_counter() - planned) * 1000)
        self.statuses[status] = self.statuses.get(status, 0) + 1

    async def open_loop(self) -> None:
        """Ask at random times, whether or not those before were answered."""
        chance = random.Random(self.plan["seed"])
        at, until = time.perf_counter(), time.perf_counter() + self.plan["seconds"]
        async with asyncio.TaskGroup() as group:
            while (at := at + chance.expovariate(self.plan["rate"])) < until:
                await asyncio.sleep(max(at - time.perf_counter(), 0))
                group.create_task(self.ask(at))

    async def closed_loop(self) -> None:
        """Ask as often as answers come."""
        until = time.perf_counter() + self.plan["seconds"]

        async def lane() -> None:
            while time.perf_counter() < until:
                await self.ask(time.perf_counter())

        async with asyncio.TaskGroup() as group:
            for _ in range(self.plan["lanes"]):
                group.create_task(lane())


async def main(plan: dict[str, object]) -> None:
    """Run the plan."""
    trusted = ssl.create_default_context(cafile=plan["authority"]) if plan["authority"] else True
    connector = aiohttp.TCPConnector(limit=plan["lanes"], ssl=trusted, keepalive_timeout=60)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        warm = Callers(plan | {"seconds": 1.0}, session)
        await warm.closed_loop()
        callers = Callers(plan, session)
        began = time.perf_counter()
        await (callers.open_loop() if plan["rate"] else callers.closed_loop())
        taken_s = time.perf_counter() - began
    latencies = sorted(callers.latencies_ms)
    told = {
        "requests": len(latencies),
        "warm": len(warm.latencies_ms),
        "seconds": taken_s,
        "statuses": {str(status): count for status, count in callers.statuses.items()},
        "p50": latencies[len(latencies) // 2],
        "p99": latencies[int(len(latencies) * 0.99)],
    }
    sys.stdout.write(orjson.dumps(told).decode() + "\n")


if __name__ == "__main__":
    uvloop.run(main(orjson.loads(Path(sys.argv[1]).read_bytes())))
