"""Measure the API gateway: what it adds to a call, how many a second one core carries, and what a refusal costs.

The gateway has one core; PostgreSQL (fsync and synchronous_commit on, its data on the disk of --work), the upstream (a
TLS server on loopback) and the callers share the other. Direct calls and those through the gateway are of one run.
Prints a table with the marks, and exits with 1 if one is missed. Needs wrk (Debian: wrk) for the refusals.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from urllib.parse import quote

import orjson
import psutil
import trustme
from evidence import get
from processes import BenchError, require_free, run, started, wait_until
from pydantic import SecretStr

from sovren_edge.auth.tokens import AuthSettings, make_token
from sovren_edge.local.socket_dir import socket_dir
from sovren_edge.store.database import open_database
from sovren_edge.store.settings import DatabaseSettings

HERE = Path(__file__).parent
EDGE_CORE, OTHER_CORE = 0, 1
PORT, UPSTREAM_PORT, POSTGRES_PORT = 19600, 19610, 5432
HOST, URL = "api.example.com", "https://api.example.com/v1/messages?to=board"
SUBSCRIBERS, LANES, FLOOD_LANES = 20, 64, 64
RATE = 300.0
START_S, SYNCS = 30, 200
KEY = "bench-key-of-no-use-anywhere-else-00"
# p50 and p99 in milliseconds above a direct call; requests and refusals a second of one core.
MARK_P50_MS, MARK_P99_MS, MARK_RATE, MARK_REFUSALS = 3.0, 15.0, 600.0, 4000.0
CONFIG = """
[log]
path = "{work}/edge.log"

[gateway.services.example]
hosts = ["example.com"]

[gateway.rehearsal]
dns = "127.0.0.1:{upstream}"
networks = ["127.0.0.0/8"]
authority = "{work}/authority.pem"
port = {upstream}

[listeners.api-gateway]
kind = "gateway"
port = {port}
"""


@dataclass(frozen=True, slots=True)
class Front:
    """The gateway as it runs, in a worker of the program; the database is the one that it has started."""

    process: Popen[bytes]
    worker: int
    database_url: str
    work: Path

    def cpu_s(self) -> float:
        """Return the CPU time of the gateway's own process, PostgreSQL's left out."""
        times = psutil.Process(self.worker).cpu_times()
        return float(times.user + times.system)


def token(subscriber: str) -> str:
    """Return a token for a while."""
    return make_token(AuthSettings(key=SecretStr(KEY)), subject=subscriber, scope="", ttl_s=3600, now=time.time())


def fsync_ms(folder: Path) -> float:
    """Return how long the disk takes for one small record, at the median."""
    taken = []
    with (folder / "sync.probe").open("wb") as file:
        for _ in range(SYNCS):
            file.write(bytes(8192))
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000


def make_authority(work: Path) -> None:
    """Write a certificate for the upstream, its key, and the authority that has signed it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(work / "authority.pem"))
    pair = authority.issue_cert(HOST, "localhost")
    pair.private_key_pem.write_to_path(str(work / "upstream.key"))
    for number, blob in enumerate(pair.cert_chain_pems):
        blob.write_to_path(str(work / "upstream.pem"), append=number > 0)


@contextmanager
def serving(work: Path) -> Iterator[Front]:
    """Run the upstream and the gateway, each on its core."""
    require_free([PORT, UPSTREAM_PORT])
    make_authority(work)
    (work / "config.toml").write_text(CONFIG.format(work=work, upstream=UPSTREAM_PORT, port=PORT), encoding="utf-8")
    os.environ["SOVREN_EDGE_TOKEN_KEY"] = KEY
    upstream = [sys.executable, str(HERE / "gateway_upstream.py"), str(UPSTREAM_PORT)]
    upstream += [str(work / "upstream.pem"), str(work / "upstream.key")]
    edge = [str(Path(sys.executable).with_name("sovren-edge")), "serve", "--local"]
    edge += ["--config", str(work / "config.toml"), "--state-dir", str(work / "state")]
    with started(upstream, OTHER_CORE, work / "upstream.out"), started(edge, EDGE_CORE, work / "edge.out") as process:
        if not wait_until(lambda: get(PORT, "/ready")[0] == 200, START_S):
            raise BenchError(f"the gateway was not ready: see {work}/edge.log and {work}/edge.err")
        worker = _worker(work / "edge.log")
        for child in psutil.Process(process.pid).children(recursive=True):
            child.cpu_affinity([EDGE_CORE if child.pid == worker else OTHER_CORE])
        host = quote(str(socket_dir(work / "state" / "postgres", POSTGRES_PORT)), safe="")
        yield Front(process, worker, f"postgresql://postgres@/postgres?host={host}&port={POSTGRES_PORT}", work)


def _worker(log: Path) -> int:
    """Return the gateway's process."""
    started_ones = (line for line in log.read_bytes().splitlines() if b'"event":"worker_started"' in line)
    return next(int(line["pid"]) for line in map(orjson.loads, started_ones) if line["worker"] == "gateway")


def names() -> list[str]:
    """Return who calls."""
    return [f"bench-{number}" for number in range(SUBSCRIBERS)]


async def add_subscribers(front: Front) -> None:
    """Let everybody call a lot, and one nothing more than it has."""
    async with open_database(front.database_url, DatabaseSettings()) as database:
        for name in names():
            await database.execute("INSERT INTO subscribers VALUES ($1, 100000)", name)
        await database.execute("INSERT INTO subscribers VALUES ('flood', 1)")


async def commits(front: Front) -> int:
    """Return how many transactions PostgreSQL has had."""
    async with open_database(front.database_url, DatabaseSettings()) as database:
        return int(await database.fetchval("SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'"))


def proxied(name: str) -> str:
    """Return the URL of a call through the gateway."""
    return f"http://127.0.0.1:{PORT}/proxy/{name}/example?url={quote(URL, safe='')}"


def callers(*, direct: bool) -> list[Mapping[str, object]]:
    """Return what each caller asks for."""
    if direct:
        return [
            {"url": f"https://localhost:{UPSTREAM_PORT}/v1/messages", "headers": {"Content-Type": "application/json"}}
        ]
    return [
        {
            "url": proxied(name),
            "headers": {"Authorization": f"Bearer {token(name)}", "Content-Type": "application/json"},
        }
        for name in names()
    ]


def load(front: Front, *, direct: bool, rate: float, seconds: float, seed: int) -> dict[str, object]:
    """Send requests; return what the callers say, and the gateway's CPU time for each request in microseconds."""
    plan = {
        "callers": callers(direct=direct), "rate": rate, "seconds": seconds, "lanes": LANES, "seed": seed,
        "authority": str(front.work / "authority.pem"),
    }  # fmt: skip
    path = front.work / "plan.json"
    path.write_bytes(orjson.dumps(plan))
    output = front.work / "callers.out"
    output.unlink(missing_ok=True)
    before_s = front.cpu_s()
    with started([sys.executable, str(HERE / "callers_of_gateway.py"), str(path)], OTHER_CORE, output) as process:
        process.wait(seconds + START_S)
    told: dict[str, object] = orjson.loads(output.read_bytes().splitlines()[-1])
    if set(told["statuses"]) != {"200"}:  # type: ignore[call-overload]
        raise BenchError(f"not every answer was a 200: {told['statuses']}")
    asked = int(str(told["requests"])) + int(str(told["warm"]))
    return told | {"cpu_us": (front.cpu_s() - before_s) / asked * 1e6}


def flood(front: Front, wrk: str, seconds: int) -> tuple[float, float, int]:
    """Have one subscriber refused; return refusals a second, CPU time of each in microseconds, and transactions."""
    script = front.work / "flood.lua"
    script.write_text(
        f'wrk.method = "POST"\nwrk.body = "{{}}"\nwrk.headers["Authorization"] = "Bearer {token("flood")}"\n'
        "function done(told) io.write(told.requests .. ' ' .. told.errors.status .. ' ' .. told.duration) end\n",
        encoding="utf-8",
    )
    before, before_s = asyncio.run(commits(front)), front.cpu_s()
    command = ["taskset", "-c", str(OTHER_CORE), wrk, "-t1", f"-c{FLOOD_LANES}", f"-d{seconds}s", "-s", str(script)]
    ended = subprocess.run([*command, proxied("flood")], capture_output=True, check=True, timeout=seconds + START_S)
    requests, refused, duration_us = map(int, ended.stdout.split()[-3:])
    cpu_us = (front.cpu_s() - before_s) / requests * 1e6
    if requests - refused > 1:
        raise BenchError(f"{requests - refused} of {requests} were not refused")
    return requests * 1e6 / duration_us, cpu_us, asyncio.run(commits(front)) - before


def measure(front: Front, wrk: str | None, *, seconds: float, seeds: int) -> list[tuple[str, float, str, float | None]]:
    """Return rows: what, how much, of which unit, and at most (negative: at least)."""
    asyncio.run(add_subscribers(front))
    added: dict[str, list[float]] = {"p50": [], "p99": []}
    for seed in range(seeds):
        direct = load(front, direct=True, rate=RATE, seconds=seconds, seed=seed)
        through = load(front, direct=False, rate=RATE, seconds=seconds, seed=seed)
        for quantile, found in added.items():
            found.append(float(str(through[quantile])) - float(str(direct[quantile])))
    full = [load(front, direct=False, rate=0.0, seconds=seconds, seed=seed) for seed in range(seeds)]
    cpu_us = statistics.median(float(str(one["cpu_us"])) for one in full)
    reached = statistics.median(int(str(one["requests"])) / float(str(one["seconds"])) for one in full)
    rows: list[tuple[str, float, str, float | None]] = [
        (f"added at {RATE:.0f}/s, p50", statistics.median(added["p50"]), "ms", MARK_P50_MS),
        (f"added at {RATE:.0f}/s, p99", statistics.median(added["p99"]), "ms", MARK_P99_MS),
        (f"proxied, {LANES} at once, both cores", reached, "/s", None),
        ("CPU time of the gateway for each", cpu_us, "µs", None),
        ("proxied a second of the gateway's core", 1e6 / cpu_us, "/s", -MARK_RATE),
    ]
    if wrk is not None:
        flooded = [flood(front, wrk, int(seconds)) for _ in range(seeds)]
        refusal_us = statistics.median(one[1] for one in flooded)
        rows += [
            ("429s, both cores", statistics.median(one[0] for one in flooded), "/s", None),
            ("429s a second of the gateway's core", 1e6 / refusal_us, "/s", -MARK_REFUSALS),
            ("transactions beside them", float(statistics.median(one[2] for one in flooded)), "", None),
        ]
    return rows


def main() -> int:
    """Measure; return 1 if a mark is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind; medians are printed")
    parser.add_argument(
        "--work", type=Path, help="a folder on the disk to measure; otherwise a new one that is removed"
    )
    told = parser.parse_args()
    folder = told.work or Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        print(f"fdatasync of 8 KiB here: {fsync_ms(folder):.2f} ms at the median", flush=True)
        with serving(folder) as front:
            rows = measure(front, shutil.which("wrk"), seconds=told.seconds, seeds=told.seeds)
    finally:
        if told.work is None:
            shutil.rmtree(folder, ignore_errors=True)
    missed = False
    for what, much, unit, mark in rows:
        met = mark is None or (much <= mark if mark > 0 else much >= -mark)
        bound = "" if mark is None else f"   at {'most' if mark > 0 else 'least'} {abs(mark):g} {unit}"
        print(f"{what:42} {much:9.2f} {unit:3}{bound}{'' if met else '  missed'}")
        missed = missed or not met
    return int(missed)


if __name__ == "__main__":
    run(main)
