"""Measure what goes wrong with speech: a slow engine, callers who leave, a greedy one, engines that fail.

Each case prints its figures with the mark that is set for them, as medians over the seeds. Must not know how callers
and engines work: see callers_of_speech.py and engine.py.
"""

import argparse
import statistics
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from models import PORTS
from processes import run
from speech import EDGE_PORT, HAPROXY_PORT, call, quantile, start

Said = list[dict[str, object]]


def stats() -> tuple[int, float]:
    """Return how often the engines were asked, and the seconds that they worked in vain."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORTS[0]}/stats", timeout=5) as answer:
        asked, wasted = answer.read().split()
    return int(asked), float(wasted)


def open_requests() -> float:
    """Return the edge's open leases and waiters."""
    with urllib.request.urlopen(f"http://127.0.0.1:{EDGE_PORT}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    names = ("endpoint_inflight{", "pool_queue_length{")
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(names))


def first_sounds(said: Said) -> list[float]:
    """Return milliseconds to first sound."""
    return [1000 * float(str(one["ttfa_s"])) for one in said if one["ttfa_s"] is not None]


def ratios(mine: list[float], theirs: list[float]) -> str:
    """Return a ratio's median and range."""
    each = [a / b for a, b in zip(mine, theirs, strict=True)]
    return f"{statistics.median(each):.2f} ({min(each):.2f}-{max(each):.2f})"


def slow(seconds: float, seeds: int) -> Iterator[str]:
    """Compare with HAProxy where one engine has 40 % of its speed."""
    found: dict[tuple[int, int], list[float]] = {}
    for seed in range(seeds):
        for port in (EDGE_PORT, HAPROXY_PORT):
            times = first_sounds(call(port, 0.7, seconds, seed))
            for percent in (95, 99):
                found.setdefault((port, percent), []).append(quantile(times, percent))
    for percent, mark in ((95, 0.75), (99, 1.0)):
        ratio = ratios(found[EDGE_PORT, percent], found[HAPROXY_PORT, percent])
        yield f"one slow engine, p{percent}: {ratio} x HAProxy (mark: {mark})"


def leaving(seconds: float, seeds: int) -> Iterator[str]:
    """Compare with HAProxy what is spoken in vain when 30 % of the callers leave after 0.1 s."""
    wasted: dict[int, list[float]] = {EDGE_PORT: [], HAPROXY_PORT: []}
    for seed in range(seeds):
        for port, found in wasted.items():
            before = stats()[1]
            call(port, 0.85, seconds, seed, "--leave", "0.3")
            found.append(stats()[1] - before)
    ratio = ratios(wasted[EDGE_PORT], wasted[HAPROXY_PORT])
    yield f"callers who leave, speech wasted: {ratio} x HAProxy (mark: 1.1); still open: {open_requests():.0f}"


def greedy(seconds: float, seeds: int) -> Iterator[str]:
    """Compare what twenty callers hear with and without one more who asks for as much as all of them."""
    alone, beside = [], []
    for seed in range(seeds):
        alone.append(quantile(first_sounds(call(EDGE_PORT, 0.85, seconds, seed, "--callers")), 95))
        said = call(EDGE_PORT, 0.85, seconds, seed, "--callers", "--greedy")
        beside.append(quantile(first_sounds([one for one in said if one["caller"] != "greedy"]), 95))
    yield f"beside a greedy caller, the others' p95: {ratios(beside, alone)} x without it (mark: 1.25)"


def failing(seconds: float, seeds: int) -> Iterator[str]:
    """Count attempts where engines fail half of their requests."""
    attempts, requests = [], []
    for seed in range(seeds):
        before = stats()[0]
        requests.append(float(len(call(EDGE_PORT, 0.7, seconds, seed))))
        attempts.append(float(stats()[0] - before))
    yield f"engines that fail half of their requests, attempts: {ratios(attempts, requests)} x requests (mark: 1.25)"


CASES: dict[str, tuple[Callable[[float, int], Iterator[str]], list[str]]] = {
    "slow": (slow, ["--slow"]),
    "leaving": (leaving, []),
    "greedy": (greedy, []),
    "failing": (failing, ["--failing"]),
}


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--case", choices=CASES, action="append", help="only this one; may be repeated")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of a run (default 20)")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--quick", action="store_true", help="one run of 5 s of each: does it work at all?")
    asked = parser.parse_args()
    if asked.quick:
        asked.seeds, asked.seconds = 1, 5.0
    for name in asked.case or CASES:
        measure, engine = CASES[name]
        with ExitStack() as stack:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            list(start(stack, work, engine, parts=True))
            for line in measure(asked.seconds, asked.seeds):
                print(line, flush=True)
    return 0


if __name__ == "__main__":
    run(main)
