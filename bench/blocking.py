"""Block the handlers' loop, and see what callers of speech notice: time to first audio with and without, in one run.

A handler sleeps for a second in its loop and is called 50 times a second; meanwhile texts are spoken over five model
engines at a constant rate. Stretches with the calls and without them take turns. Fails if the p99 of the time to first
audio differs by more than a millisecond and a tenth. The program has one core, engines and callers the other.
"""

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

import aiohttp
from changes import ENGINES, spoken_at
from evidence import get
from processes import BenchError, require_free, run, started, wait_until

HERE = Path(__file__).parent
EDGE_CORE, OTHER_CORE = 0, 1
SPEECH, BLOCKED = 19750, 19751
SPEECH_RATE, BLOCKED_RATE = 25.0, 50.0
START_S, PATIENCE_S = 30.0, 60.0
MOST_MS, MOST_RATIO = 1.0, 1.1
HANDLER = """
import contextlib, time
from sovren_edge.handler import Handler, route

class Blocking(Handler):
    @contextlib.asynccontextmanager
    async def open(self, edge):
        async def block() -> dict[str, bool]:
            time.sleep(1.0)
            return {"slept": True}

        yield [route.post("/block", block)]
"""
CONFIG = """
[log]
path = "{work}/edge.log"

[edge]
bind = "127.0.0.1"

[pools.engines]
kind = "speech"
endpoints = [{engines}]
slots = 2
probe = {{ path = "/stats" }}

[listeners.speech]
kind = "balance"
port = {speech}
pool = "engines"
auth = "none"

[listeners.blocking]
kind = "handler"
port = {blocked}
handler = "blocking"
auth = "none"
"""


def install(work: Path) -> Path:
    """Install the handler as a distribution of its own; return what PYTHONPATH has to name."""
    site = work / "site"
    info = site / "blocking-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "blocking.py").write_text(HANDLER, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: blocking\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[sovren_edge.handlers]\nblocking = blocking:Blocking\n", encoding="utf-8")
    return site


async def block(session: aiohttp.ClientSession, group: asyncio.TaskGroup) -> None:
    """Call the handler at a constant rate until cancelled; nobody waits for its answers."""

    async def call() -> None:
        with suppress(aiohttp.ClientError, TimeoutError):
            async with session.post(f"http://127.0.0.1:{BLOCKED}/block", timeout=aiohttp.ClientTimeout(total=2.0)):
                pass

    while True:
        group.create_task(call())
        await asyncio.sleep(1 / BLOCKED_RATE)


async def speak(session: aiohttp.ClientSession, seconds: float, first: int) -> list[float]:
    """Have texts spoken at a constant rate; return each one's time to its first sound, from when it was due."""
    loop, times = asyncio.get_running_loop(), list[float]()
    began = loop.time()

    async def one(number: int, due: float) -> None:
        async with session.post(**spoken_at(SPEECH, number)) as answer:  # type: ignore[arg-type]  # as aiohttp has it
            if answer.status != 200:
                raise BenchError(f"a text was answered with {answer.status}")
            sound = 0
            async for piece in answer.content.iter_any():
                if not sound and len(piece) > 44:
                    times.append((loop.time() - due) * 1000)
                sound += len(piece)

    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds * SPEECH_RATE)):
            due = began + number / SPEECH_RATE
            await asyncio.sleep(max(0.0, due - loop.time()))
            group.create_task(one(first + number, due))
    return times


async def measure(stretches: int, seconds: float) -> tuple[list[float], list[float]]:
    """Return the times to first audio in milliseconds, without and with calls that block."""
    without: list[float] = []
    blocked: list[float] = []
    number = 0
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        for _ in range(stretches):
            for found, blocking in ((without, False), (blocked, True)):
                async with asyncio.TaskGroup() as group:
                    task = group.create_task(block(session, group)) if blocking else None
                    found.extend(await speak(session, seconds, number))
                    number += int(seconds * SPEECH_RATE)
                    if task is not None:
                        task.cancel()
    return without, blocked


def main() -> int:
    """Measure; return 1 if callers of speech notice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each stretch")
    parser.add_argument("--stretches", type=int, default=4, help="of each kind")
    told = parser.parse_args()
    require_free([SPEECH, BLOCKED, *ENGINES])
    work = Path(tempfile.mkdtemp(prefix="blocking-bench-"))
    (work / "config.toml").write_text(
        CONFIG.format(
            work=work, engines=", ".join(f'"127.0.0.1:{port}"' for port in ENGINES), speech=SPEECH, blocked=BLOCKED
        ),
        encoding="utf-8",
    )
    site = install(work)
    edge = ["env", f"PYTHONPATH={site}", str(Path(sys.executable).with_name("sovren-edge")), "serve"]
    edge += ["--config", str(work / "config.toml"), "--state-dir", str(work / "state")]
    try:
        with ExitStack() as stack:
            engine = [sys.executable, str(HERE / "engine.py"), *map(str, ENGINES)]
            stack.enter_context(started(engine, OTHER_CORE, work / "engine.out"))
            stack.enter_context(started(edge, EDGE_CORE, work / "edge.out"))
            if not wait_until(lambda: get(SPEECH, "/ready")[0] == get(BLOCKED, "/ready")[0] == 200, START_S):
                raise BenchError(f"the program was not ready: see {work}/edge.err")
            without, blocked = asyncio.run(measure(told.stretches, told.seconds))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"{'time to first audio, ms':28} {'p50':>8} {'p99':>8}  texts")
    for name, times in (("nobody blocks", without), ("a handler blocks its loop", blocked)):
        print(f"{name:28} {statistics.median(times):8.2f} {p99(times):8.2f}  {len(times)}")
    return int(p99(blocked) > max(p99(without) + MOST_MS, p99(without) * MOST_RATIO))


def p99(times: list[float]) -> float:
    """Return the 99th percentile."""
    return statistics.quantiles(times, n=100)[98]


if __name__ == "__main__":
    run(main)
