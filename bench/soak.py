"""Run the program for an hour under load, with faults, and see that nothing grows: memory, descriptors, what is open.

Speech and calls through the gateway come at constant rates (as in changes.py). Every half a minute something goes
wrong: the configuration is reloaded, engines hang, PostgreSQL stands still, the worker that operates is killed, callers
leave by the dozen. Memory and descriptors of the balancer and the gateway are sampled every few seconds. Fails if the
median of the last quarter is above that of the second one by more than a tenth and 8 MB (4 descriptors), if a request
is open at the end, or if requests failed other than while PostgreSQL and engines were standing still.
"""

import argparse
import asyncio
import itertools
import shutil
import statistics
import tempfile
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import aiohttp
import orjson
import psutil
from changes import ALL, Outcomes, Program, loaded, running, spoken, write_config
from gateway import add_subscribers
from processes import run

SAMPLE_S, FAULT_S, STANDSTILL_S, SETTLE_S = 5.0, 30.0, 4.0, 5.0
LEAVERS = 50
MOST_RATIO, MOST_BYTES, MOST_DESCRIPTORS = 1.1, 8 << 20, 4
WATCHED = ("balance", "gateway")


class Soak:
    """The faults, and what was sampled meanwhile."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.samples: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._variants = itertools.cycle((0, 1))

    async def reload(self) -> None:
        """Reload the other one of two configurations."""
        write_config(self.program.front.work, variant=next(self._variants))
        await self.program.reload_once()

    async def stop_engines(self) -> None:
        """Have engines accept and say nothing for a while."""
        await self._stand_still([one for one in psutil.process_iter() if "engine.py" in " ".join(_cmdline(one))])

    async def stop_postgres(self) -> None:
        """Have PostgreSQL say nothing for a while."""
        ours = psutil.Process(self.program.front.process.pid).children(recursive=True)
        await self._stand_still([one for one in ours if one.name() == "postgres"])

    async def _stand_still(self, processes: list[psutil.Process]) -> None:
        for one in processes:
            one.suspend()
        await asyncio.sleep(STANDSTILL_S)
        for one in processes:
            one.resume()

    async def leave(self) -> None:
        """Ask for speech, and leave before it is over."""
        timeout = aiohttp.ClientTimeout(total=0.05)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one(number: int) -> None:
                with suppress(TimeoutError, aiohttp.ClientError):
                    async with session.post(**spoken(number), timeout=timeout) as answer:  # type: ignore[arg-type]
                        await answer.read()

            await asyncio.gather(*(one(-number) for number in range(LEAVERS)))

    async def sample(self) -> None:
        """Look at the watched workers, again and again until cancelled."""
        while True:
            await asyncio.sleep(SAMPLE_S)
            for worker in WATCHED:
                process = psutil.Process(self.program.pid(worker))
                self.samples[worker, "bytes"].append(process.memory_info().rss)
                self.samples[worker, "descriptors"].append(process.num_fds())

    def grown(self) -> list[str]:
        """Return what has grown, as sentences."""
        said = []
        for (worker, unit), found in self.samples.items():
            quarter = len(found) // 4
            before, after = statistics.median(found[quarter : 2 * quarter]), statistics.median(found[-quarter:])
            print(f"{worker:8} {unit:12} {before:14.0f} in the second quarter {after:14.0f} in the last")
            allowed = MOST_BYTES if unit == "bytes" else MOST_DESCRIPTORS
            if after > before * MOST_RATIO + allowed:
                said.append(f"{unit} of {worker} grew from {before:.0f} to {after:.0f}")
        return said


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


async def still_open() -> int:
    """Return how many requests are open by the program's own counting, once all have been answered."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{ALL}/status") as answer:
        pools = orjson.loads(await answer.read())["pools"]
    return int(sum(pool["inflight"] + pool["queue"]["length"] for pool in pools))


async def soak(program: Program, seconds: float) -> list[str]:
    """Do all of it; return what is wrong, as sentences."""
    await add_subscribers(program.front)
    one, outcomes, loop = Soak(program), Outcomes(), asyncio.get_running_loop()
    faults = [
        ("reload", one.reload), ("engines stand still", one.stop_engines), ("callers leave", one.leave),
        ("PostgreSQL stands still", one.stop_postgres), ("operate dies", program.kill("operate")),
    ]  # fmt: skip
    end = loop.time() + seconds
    async with loaded(outcomes):
        sampling = asyncio.create_task(one.sample())
        for name, fault in itertools.cycle(faults):
            outcomes.phase = "steady"
            await asyncio.sleep(min(FAULT_S, max(0.0, end - loop.time())))
            if loop.time() >= end:
                break
            outcomes.phase = name
            await fault()
            await asyncio.sleep(SETTLE_S)
        sampling.cancel()
    said = one.grown()
    for (port, phase), found in outcomes.found.items():
        failed = {outcome: count for outcome, count in found.items() if outcome != "200"}
        print(f"{port:8} {phase:24} {found.total():7} sent, {failed or 'none failed'}")
        if failed and "stand" not in phase:
            said.append(f"requests to {port} failed during {phase}: {failed}")
    left = await still_open()
    return [*said, *([f"{left} requests are still open"] if left else [])]


def main() -> int:
    """Run all of it; return 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0)
    told = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        with running(work) as program:
            said = asyncio.run(soak(program, told.seconds))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print("\n".join(said) or "nothing has grown, and nothing is left open")
    return int(bool(said))


if __name__ == "__main__":
    run(main)
