"""Measure how soon speech begins through the edge, beside HAProxy in two forms and nginx, with engines that are models.

Each balancer is asked the same texts at the same times; seeds are the rounds. Prints a table: time to the first byte of
sound from the planned arrival, in milliseconds, as medians over the seeds, with their least and greatest.
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

import orjson
from models import PORTS, nginx_directories
from processes import BenchError, pinned, started, wait_until
from proxies import find_program

HERE = Path(__file__).parent
EDGE_PORT, HAPROXY_PORT, LENGTH_PORT, NGINX_PORT = 19500, 19510, 19511, 19512
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
    """One that is compared."""

    name: str
    port: int


@dataclass(frozen=True, slots=True)
class Heard:
    """What callers of one run heard: milliseconds to the first sound, by group of texts."""

    everybody: list[float]
    short: list[float]
    long: list[float]
    lost: int


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--load", type=float, default=0.85, help="share of what all slots can do (default 0.85)")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a run (default 30)")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each balancer (default 5)")
    parser.add_argument("--noisy", action="store_true", help="engines whose cost is a lognormal around the linear one")
    parser.add_argument("--whole", action="store_true", help="engines that answer only when all is spoken")
    asked = parser.parse_args()
    engine = [flag for flag in ("--noisy", "--whole") if getattr(asked, flag[2:])]
    heard: dict[str, list[Heard]] = {}
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        balancers = list(_start(stack, work, engine))
        for seed in range(asked.seeds):
            for balancer in balancers:
                one = _measure(balancer.port, asked.load, asked.seconds, seed)
                heard.setdefault(balancer.name, []).append(one)
                print(f"seed {seed}, {balancer.name}: p95 {_quantile(one.everybody, 95):.0f} ms", flush=True)
    print("\n".join(_table(heard)))
    return 0


def _start(stack: ExitStack, work: Path, engine: list[str]) -> Iterator[Balancer]:
    command = [sys.executable, str(HERE / "engine.py"), *engine, *map(str, PORTS)]
    stack.enter_context(started(command, 1, work / "engine.out"))
    edge = (str(Path(sys.executable).with_name("sovren-edge")), "serve", "--config", str(HERE / "speech.toml"))
    stack.enter_context(started(edge, 0, work / "edge.out"))
    found = [Balancer("sovren-edge", EDGE_PORT)]
    haproxy, nginx = find_program("haproxy"), find_program("nginx")
    if haproxy:
        servers = "\n  ".join(f"server m{port} 127.0.0.1:{port} maxconn 2" for port in PORTS)
        config = work / "speech.cfg"
        config.write_text(HAPROXY.format(servers=servers, port=HAPROXY_PORT, length_port=LENGTH_PORT))
        stack.enter_context(started((haproxy, "-db", "-f", str(config)), 0, work / "haproxy.out"))
        found += [Balancer("HAProxy", HAPROXY_PORT), Balancer("HAProxy, by length", LENGTH_PORT)]
    if nginx:
        servers = " ".join(f"server 127.0.0.1:{port};" for port in PORTS)
        config = work / "speech.conf"
        config.write_text(NGINX.format(temporary=nginx_directories("speech"), servers=servers, port=NGINX_PORT))
        started_nginx = (nginx, "-p", str(work), "-c", str(config), "-e", str(work / "speech.err"))
        stack.enter_context(started(started_nginx, 0, work / "nginx.out"))
        found.append(Balancer("nginx", NGINX_PORT))
    for balancer in found:
        if not wait_until(partial(_relays, balancer.port), 20):
            raise BenchError(f"{balancer.name} does not relay")
        yield balancer


def _relays(port: int) -> bool:
    heard = _measure(port, 0.1, 1.0, 0)
    return bool(heard.everybody) and not heard.lost


def _measure(port: int, load: float, seconds: float, seed: int) -> Heard:
    command = [sys.executable, str(HERE / "callers_of_speech.py"), *map(str, (port, load, seconds, seed))]
    with pinned(1):
        ended = subprocess.run(command, capture_output=True, check=True, timeout=seconds + 120)
    said = [orjson.loads(line) for line in ended.stdout.splitlines()]
    served = [one for one in said if one["status"] == 200 and one["whole_s"] is not None]
    groups = (0, LONG * 100), (0, SHORT), (LONG + 1, LONG * 100)
    everybody, short, long = (
        [one["ttfa_s"] * 1000 for one in served if least <= one["characters"] <= most] for least, most in groups
    )
    return Heard(everybody, short, long, len(said) - len(served))


def _quantile(times: list[float], percent: int) -> float:
    return statistics.quantiles(times, n=100)[percent - 1] if len(times) > 1 else float("nan")


def _table(heard: dict[str, list[Heard]]) -> Iterator[str]:
    yield f"| balancer | p50 | p95 | p99 | up to {SHORT} characters p95 | over {LONG} p95 | over {LONG} p99 | lost |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    for name, runs in heard.items():
        columns = [
            *([_quantile(run.everybody, percent) for run in runs] for percent in (50, 95, 99)),
            [_quantile(run.short, 95) for run in runs],
            [_quantile(run.long, 95) for run in runs],
            [_quantile(run.long, 99) for run in runs],
        ]
        cells = [f"{statistics.median(column):.0f} ({min(column):.0f}-{max(column):.0f})" for column in columns]
        yield f"| {name} | {' | '.join(cells)} | {sum(run.lost for run in runs)} |"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
