"""Measure how soon speech begins through the edge, beside its peers, with engines that are models.

Each balancer is asked the same texts at the same times; seeds are the rounds. Prints a table: time to the first sample
from the planned arrival, in milliseconds, as medians over the seeds, with their least and greatest. With `--parts`, the
edge divides texts, and beside it is a client that does so itself in front of HAProxy.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from models import PORTS, nginx_directories
from peers import caddy, envoy, traefik
from processes import BenchError, pinned, run, started, wait_until
from proxies import PAIR, find_program

HERE = Path(__file__).parent
EDGE_PORT, PARTS_PORT, HAPROXY_PORT, LENGTH_PORT, NGINX_PORT = 19500, 19501, 19510, 19511, 19512
PEERS = (("Envoy", 19513, envoy), ("Traefik", 19514, traefik), ("Caddy", 19515, caddy))
STALL_S = 0.1
SHORT, LONG = 100, 500

HAPROXY = """
global
  nbthread 1
defaults
  mode http
  timeout connect 2s
  timeout client 120s
  timeout server 120s
  timeout queue 120s
  balance leastconn
  option http-no-delay
  option abortonclose
backend models
  {servers}
backend by_length
  {servers}
frontend plain
  bind 127.0.0.1:{port}
  default_backend models
frontend ordered
  bind 127.0.0.1:{length_port}
  http-request set-priority-class int(0)
  http-request set-priority-offset req.hdr(content-length)
  default_backend by_length
"""

NGINX = """
daemon off; worker_processes 1; pid speech.pid; error_log speech.err warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  {temporary}
  upstream models {{ least_conn; {servers} keepalive 64; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://models; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Balancer:
    """One that is compared; its callers may `split` their texts themselves."""

    name: str
    port: int
    split: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """What callers of one run heard: milliseconds to the first sound, by group of texts, and to the last.

    `stalled` is the share of texts in whose middle a listener heard silence.
    """

    everybody: list[float]
    short: list[float]
    long: list[float]
    whole: list[float]
    stalled: float
    lost: int


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--load", type=float, default=0.85, help="share of what all slots can do (default 0.85)")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a run (default 30)")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each balancer (default 5)")
    parser.add_argument("--noisy", action="store_true", help="engines whose cost is a lognormal around the linear one")
    parser.add_argument("--whole", action="store_true", help="engines that answer only when all is spoken")
    parser.add_argument("--crowded", action="store_true", help="engines whose slots slow each other")
    parser.add_argument("--parts", action="store_true", help="the edge divides texts; beside it, so does a client")
    parser.add_argument("--quick", action="store_true", help="one run of 5 s of each: does it work at all?")
    asked = parser.parse_args()
    if asked.quick:
        asked.seeds, asked.seconds = 1, 5.0
    engine = [flag for flag in ("--noisy", "--whole", "--crowded") if getattr(asked, flag[2:])]
    heard: dict[str, list[Heard]] = {}
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        balancers = list(start(stack, work, engine, parts=asked.parts))
        for seed in range(asked.seeds):
            for balancer in balancers:
                one = _measure(balancer, asked.load, asked.seconds, seed)
                heard.setdefault(balancer.name, []).append(one)
                print(f"seed {seed}, {balancer.name}: p95 {quantile(one.everybody, 95):.0f} ms", flush=True)
    print("\n".join(_table(heard)))
    return 0


def start(stack: ExitStack, work: Path, engine: list[str], *, parts: bool) -> Iterator[Balancer]:
    """Start engines and balancers until the stack is closed."""
    command = [sys.executable, str(HERE / "engine.py"), *engine, *map(str, PORTS)]
    stack.enter_context(started(command, 1, work / "engine.out"))
    edge = (str(Path(sys.executable).with_name("sovren-edge")), "serve", "--config", str(HERE / "speech.toml"))
    stack.enter_context(started(edge, 0, work / "edge.out"))
    found = [Balancer("sovren-edge", EDGE_PORT)]
    if parts:
        found = [Balancer("sovren-edge, in parts", PARTS_PORT), *found]
    haproxy, nginx = find_program("haproxy"), find_program("nginx")
    if haproxy:
        servers = "\n  ".join(f"server m{port} 127.0.0.1:{port} maxconn 2" for port in PORTS)
        config = work / "speech.cfg"
        config.write_text(HAPROXY.format(servers=servers, port=HAPROXY_PORT, length_port=LENGTH_PORT))
        stack.enter_context(started((haproxy, "-db", "-f", str(config)), 0, work / "haproxy.out"))
        found.append(Balancer("HAProxy", HAPROXY_PORT))
        found += [Balancer("HAProxy, split by the client", HAPROXY_PORT, split=True)] if parts else []
        found += [] if parts else [Balancer("HAProxy, by length", LENGTH_PORT)]
    if nginx and not parts:
        servers = " ".join(f"server 127.0.0.1:{port};" for port in PORTS)
        config = work / "speech.conf"
        config.write_text(NGINX.format(temporary=nginx_directories("speech"), servers=servers, port=NGINX_PORT))
        started_nginx = (nginx, "-p", str(work), "-c", str(config), "-e", str(work / "speech.err"))
        stack.enter_context(started(started_nginx, 0, work / "nginx.out"))
        found.append(Balancer("nginx", NGINX_PORT))
    found += [] if parts else _start_peers(stack, work)
    for balancer in found:
        if not wait_until(partial(_relays, balancer), 20):
            raise BenchError(f"{balancer.name} does not relay")
        yield balancer


def _start_peers(stack: ExitStack, work: Path) -> Iterator[Balancer]:
    for name, port, configure in PEERS:
        program = find_program(name.lower())
        if program is not None:
            command = configure(program, work, port, PAIR)
            stack.enter_context(started(command, 0, work / f"{name.lower()}.out"))
            yield Balancer(name, port)


def call(port: int, load: float, seconds: float, seed: int, *options: str) -> list[dict[str, Any]]:
    """Have texts spoken; return what callers_of_speech.py says of each."""
    command = [sys.executable, str(HERE / "callers_of_speech.py"), *options, *map(str, (port, load, seconds, seed))]
    with pinned(1):
        ended = subprocess.run(command, capture_output=True, check=True, timeout=seconds + 120)
    return [orjson.loads(line) for line in ended.stdout.splitlines()]


def _relays(balancer: Balancer) -> bool:
    heard = _measure(balancer, 0.1, 1.0, 0)
    return bool(heard.everybody)


def _measure(balancer: Balancer, load: float, seconds: float, seed: int) -> Heard:
    said = call(balancer.port, load, seconds, seed, *(["--split"] if balancer.split else []))
    served = [one for one in said if one["whole_s"] is not None]
    groups = (0, LONG * 100), (0, SHORT), (LONG + 1, LONG * 100)
    everybody, short, long = (
        [one["ttfa_s"] * 1000 for one in served if least <= one["characters"] <= most] for least, most in groups
    )
    stalled = sum(one["silence_s"] > STALL_S for one in served) / max(1, len(served))
    whole = [one["whole_s"] * 1000 for one in served]
    return Heard(everybody, short, long, whole, stalled, len(said) - len(served))


def quantile(times: list[float], percent: int) -> float:
    """Return a percentile; nothing is one of less than two times."""
    return statistics.quantiles(times, n=100)[percent - 1] if len(times) > 1 else float("nan")


def _table(heard: dict[str, list[Heard]]) -> Iterator[str]:
    groups = f"p50 | p95 | p99 | up to {SHORT} characters p95 | over {LONG} p50 | over {LONG} p95 | over {LONG} p99"
    yield f"| balancer | {groups} | whole, mean | stalled, ‰ | lost |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    for name, runs in heard.items():
        columns = [
            *([quantile(run.everybody, percent) for run in runs] for percent in (50, 95, 99)),
            [quantile(run.short, 95) for run in runs],
            *([quantile(run.long, percent) for run in runs] for percent in (50, 95, 99)),
            [statistics.mean(run.whole) for run in runs],
            [1000 * run.stalled for run in runs],
        ]
        cells = [f"{statistics.median(column):.0f} ({min(column):.0f}-{max(column):.0f})" for column in columns]
        yield f"| {name} | {' | '.join(cells)} | {sum(run.lost for run in runs)} |"


if __name__ == "__main__":
    run(main)
