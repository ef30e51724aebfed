"""Change the running program under load: reload it, upgrade it, kill its workers, drain it; tell what failed, and when.

An open loop speaks over five model engines on one port, and calls an external API through the gateway on another, at
constant rates: a request is sent when its time has come, whatever became of those before. The program has its local
PostgreSQL; the upstream is a TLS server on loopback. Fails unless every request was answered with 200, but for those
on the connections of a worker that was killed, which are counted by worker. Prints a table.
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import aiohttp
import orjson
from evidence import get
from gateway import HOST, KEY, SUBSCRIBERS, Front, add_subscribers, make_authority, names, token
from processes import BenchError, require_free, run, started, wait_until

from sovren_edge.local.socket_dir import socket_dir

HERE = Path(__file__).parent
EDGE_CORE, OTHER_CORE = 0, 1
SPEECH, GATEWAY, ALL, UPSTREAM, ENGINES = 19700, 19701, 19702, 19710, (19720, 19721, 19722, 19723, 19724)
SPEECH_RATE, GATEWAY_RATE = 40.0, 20.0
START_S, SETTLE_S, PATIENCE_S = 30.0, 2.0, 60.0
RELOADS, UPGRADES = 20, 5
# So many failures are told in full.
TOLD = 20
CONFIG = """
[edge]
drain_s = 20.0

[log]
path = "{work}/edge.log"

[pools.engines]
kind = "speech"
endpoints = [{engines}]
slots = {slots}
repeatable = true
probe = {{ path = "/stats" }}

[listeners.speech]
kind = "balance"
port = {speech}
pool = "engines"
auth = "none"

[gateway]
hourly_limit = {limit}

[gateway.services.example]
hosts = [{hosts}]

[gateway.rehearsal]
dns = "127.0.0.1:{upstream}"
networks = ["127.0.0.0/8"]
authority = "{work}/authority.pem"
port = {upstream}

[listeners.api-gateway]
kind = "gateway"
port = {gateway}

[listeners.all]
kind = "status"
port = {all}
auth = "none"
"""


@dataclass
class Outcomes:
    """What became of requests, by port and what was going on when they were sent."""

    phase: str = "steady"
    found: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    # The first failures, each with what the client says of it.
    told: list[str] = field(default_factory=list)

    async def ask(self, name: str, session: aiohttp.ClientSession, request: Mapping[str, object]) -> None:
        """Send one request, and note what became of it."""
        phase, request_id = self.phase, ""
        try:
            async with session.post(**request) as answer:  # type: ignore[arg-type]  # as aiohttp knows them
                request_id = answer.headers.get("X-Request-Id", "")
                await answer.read()
                outcome = str(answer.status)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            # It was cut by what is going on now, whenever it was sent.
            outcome, phase = type(error).__name__, self.phase
            if len(self.told) < TOLD:
                self.told.append(f"{time.strftime('%H:%M:%S')} {name} {phase} {request_id} {outcome}: {error}")
        self.found[name, phase][outcome] += 1


def write_config(work: Path, *, variant: int) -> None:
    """Write one of two configurations: they differ in endpoints, slots, limits and the whitelist."""
    engines = ENGINES if variant else ENGINES[:-1]
    text = CONFIG.format(
        work=work, engines=", ".join(f'"127.0.0.1:{port}"' for port in engines), slots=2 + variant,
        limit=100 + variant, hosts='"example.com", "example.org"' if variant else '"example.com"',
        speech=SPEECH, gateway=GATEWAY, all=ALL, upstream=UPSTREAM,
    )  # fmt: skip
    beside = work / "config.new"
    beside.write_text(text, encoding="utf-8")
    beside.replace(work / "config.toml")


async def send(
    name: str, rate: float, outcomes: Outcomes, make: Callable[[int], Mapping[str, object]], stop: asyncio.Event
) -> None:
    """Send requests at a constant rate until told to stop, and wait for all answers."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    connector = aiohttp.TCPConnector(limit=0)
    loop, number = asyncio.get_running_loop(), 0
    began = loop.time()
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as group:
        while not stop.is_set():
            group.create_task(outcomes.ask(name, session, make(number)))
            number += 1
            await asyncio.sleep(max(0.0, began + number / rate - loop.time()))


def spoken(number: int) -> Mapping[str, object]:
    """Return a request for speech."""
    return spoken_at(SPEECH, number)


def spoken_at(port: int, number: int) -> Mapping[str, object]:
    """Return a request for speech on a port; no text comes twice."""
    text = f"Sentence number {number} of those that are spoken while the program is being changed. " * (1 + number % 4)
    body = orjson.dumps({"model": "tts-1", "input": text, "voice": "heart", "response_format": "wav"})
    return {"url": f"http://127.0.0.1:{port}/v1/audio/speech", "data": body}


def proxied(tokens: Sequence[str]) -> Callable[[int], Mapping[str, object]]:
    """Return what makes calls through the gateway, by one subscriber after the other."""
    target = quote(f"https://{HOST}/v1/messages", safe="")

    def make(number: int) -> Mapping[str, object]:
        caller = number % len(tokens)
        url = f"http://127.0.0.1:{GATEWAY}/proxy/{names()[caller]}/example?url={target}"
        return {"url": url, "data": b"{}", "headers": {"Authorization": f"Bearer {tokens[caller]}"}}

    return make


@dataclass(frozen=True)
class Program:
    """The program as it runs, and its log."""

    front: Front

    def events(self, event: str) -> list[dict[str, object]]:
        """Return the log's lines of one event."""
        lines = (self.front.work / "edge.log").read_bytes().splitlines()
        return [orjson.loads(line) for line in lines if b'"event":"%s"' % event.encode() in line]

    async def seen(self, event: str, count: int) -> None:
        """Wait until the log has so many lines of an event."""
        if not await asyncio.to_thread(wait_until, lambda: len(self.events(event)) >= count, PATIENCE_S):
            raise BenchError(f"there was no {event} number {count}: see {self.front.work}/edge.log")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        os.kill(self.front.process.pid, number)

    def pid(self, worker: str) -> int:
        """Return the process of a worker that serves now."""
        return [int(str(line["pid"])) for line in self.events("worker_started") if line["worker"] == worker][-1]

    async def reload_once(self) -> None:
        """Have the configuration applied as it is now."""
        count = len(self.events("reloaded")) + 1
        self.signal(signal.SIGHUP)
        await self.seen("reloaded", count)

    async def reload(self) -> None:
        """Reload each of two configurations in turn."""
        for turn in range(RELOADS):
            write_config(self.front.work, variant=turn % 2)
            await self.reload_once()

    async def upgrade(self) -> None:
        """Upgrade, each time once the generation before has gone."""
        for _ in range(UPGRADES):
            serving, retired = len(self.events("serving")), len(self.events("worker_retired"))
            self.signal(signal.SIGUSR2)
            await self.seen("serving", serving + 1)
            await self.seen("worker_retired", retired + 3)

    def kill(self, worker: str) -> Callable[[], Awaitable[None]]:
        """Return what kills a worker, and waits until it has begun anew."""

        async def kill() -> None:
            count = len(self.events("worker_started")) + 1
            os.kill(self.pid(worker), signal.SIGKILL)
            await self.seen("worker_started", count)
            await asyncio.sleep(2 * SETTLE_S)

        return kill


@asynccontextmanager
async def loaded(outcomes: Outcomes) -> AsyncIterator[asyncio.Event]:
    """Have both ports asked until the block ends, or the event is set."""
    stop = asyncio.Event()
    tokens = [token(name) for name in names()]
    async with asyncio.TaskGroup() as group:
        group.create_task(send("speech", SPEECH_RATE, outcomes, spoken, stop))
        group.create_task(send("gateway", GATEWAY_RATE, outcomes, proxied(tokens), stop))
        try:
            yield stop
        finally:
            stop.set()


async def change(program: Program) -> tuple[Outcomes, int]:
    """Do all of it; return what became of requests, and how many the stop has cut."""
    await add_subscribers(program.front)
    outcomes = Outcomes()
    phases: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        ("steady", lambda: asyncio.sleep(SETTLE_S)),
        (f"{RELOADS} reloads", program.reload),
        (f"{UPGRADES} upgrades", program.upgrade),
        *((f"kill {worker}", program.kill(worker)) for worker in ("balance", "gateway", "operate")),
    ]
    async with loaded(outcomes) as stop:
        for phase, work in phases:
            outcomes.phase = phase
            print(f"{time.strftime('%H:%M:%S')} {phase}", flush=True)
            await work()
            await asyncio.sleep(SETTLE_S)
        outcomes.phase = "drain"
        stop.set()
        program.signal(signal.SIGTERM)
    await program.seen("stopped", 1)
    return outcomes, int(str(program.events("stopped")[-1]["cut_requests"]))


def report(outcomes: Outcomes, cut: int) -> bool:
    """Print what became of requests; return whether only those failed that a killed worker had."""
    good = True
    print(f"\n{'port':8} {'while':12} {'sent':>6} {'200':>6}  others")
    for (name, phase), found in outcomes.found.items():
        others = {outcome: count for outcome, count in found.items() if outcome != "200"}
        print(f"{name:8} {phase:12} {found.total():6} {found['200']:6}  {others or ''}")
        mine = phase == {"speech": "kill balance", "gateway": "kill gateway"}[name]
        good = good and (not others or (mine and not any(outcome.isdigit() for outcome in others)))
    print("\n".join(outcomes.told))
    print(f"cut by the stop: {cut}")
    return good and not cut


@contextmanager
def running(work: Path) -> Iterator[Program]:
    """Run the upstream, the engines and the program until the block ends; it is entered when both ports are ready."""
    require_free([SPEECH, GATEWAY, ALL, UPSTREAM, *ENGINES])
    make_authority(work)
    write_config(work, variant=1)
    os.environ["SOVREN_EDGE_TOKEN_KEY"] = KEY
    upstream = [sys.executable, str(HERE / "gateway_upstream.py"), str(UPSTREAM)]
    upstream += [str(work / "upstream.pem"), str(work / "upstream.key")]
    engine = [sys.executable, str(HERE / "engine.py"), *map(str, ENGINES)]
    edge = [str(Path(sys.executable).with_name("sovren-edge")), "serve", "--local"]
    edge += ["--config", str(work / "config.toml"), "--state-dir", str(work / "state")]
    with ExitStack() as stack:
        stack.enter_context(started(upstream, OTHER_CORE, work / "upstream.out"))
        stack.enter_context(started(engine, OTHER_CORE, work / "engine.out"))
        process = stack.enter_context(started(edge, EDGE_CORE, work / "edge.out"))
        if not wait_until(lambda: get(GATEWAY, "/ready")[0] == get(SPEECH, "/ready")[0] == 200, START_S):
            raise BenchError(f"the program was not ready: see {work}/edge.log and {work}/edge.err")
        host = quote(str(socket_dir(work / "state" / "postgres", 5432)), safe="")
        url = f"postgresql://postgres@/postgres?host={host}&port=5432"
        yield Program(Front(process, 0, url, work))


def main() -> int:
    """Run all of it; return 1 if a request failed that should not have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="a folder for what is written; otherwise a new one that is removed")
    told = parser.parse_args()
    work = told.work or Path(tempfile.mkdtemp(prefix="changes-bench-"))
    work.mkdir(parents=True, exist_ok=True)
    try:
        with running(work) as program:
            outcomes, cut = asyncio.run(change(program))
    finally:
        if told.work is None:
            shutil.rmtree(work, ignore_errors=True)
    print(f"{SUBSCRIBERS} subscribers; {SPEECH_RATE:.0f} texts and {GATEWAY_RATE:.0f} calls a second")
    return 0 if report(outcomes, cut) else 1


if __name__ == "__main__":
    run(main)
