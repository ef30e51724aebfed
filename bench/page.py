"""Owns docs/performance.md: what was reached, mark by mark, and the whole race behind it.

Must not know how anything was measured.
"""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from figure import Figure
from proxies import CADDY, DUTIES, EDGE, ENVOY, FLOOR, PLAIN, TRAEFIK
from report import TITLES, Run, describe_evidence, make_table

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
# By kind of request: whose CPU time per request it is compared with, and how many times that it may be.
MARKS = (
    ("get", PLAIN, 1.6), ("get", DUTIES, 1.3), ("get", ENVOY, 0.5), ("get", TRAEFIK, 0.5), ("get", CADDY, 0.5),
    ("post", PLAIN, 1.6), ("post", DUTIES, 1.3), ("post", ENVOY, 0.5), ("post", TRAEFIK, 0.5), ("post", CADDY, 0.5),
    ("tls", PLAIN, 1.6), ("handshake", PLAIN, 1.6),
)  # fmt: skip
HOW = """\
One dated run of `make bench` wrote this page; [bench/README.md](../bench/README.md) tells how each figure is measured
and how to repeat it. Compare figures of one run only. The proxy has one core, load and endpoints have the other.
CPU time is the operating system's, of the proxy's whole process tree. The edge does everything that it always does:
metrics, an access log to a file, forwarded fields, request ids, leases, time-outs, probes.
"""
WHERE = """\
## What stands in the way

The *bare forwarder* is a Python program on uvloop that reads no byte, counts nothing and writes no log: below its cost
nobody can go who relays with Python on uvloop. The difference between it and the edge is the edge's work in Python, and
`bench/micro.py` times that alone. The edge remembers what the last 512 heads say, so callers that send the same head
again are cheaper than those that never do: that is the kind *never the same bytes twice*.
"""


def race_figures(runs: Sequence[Run]) -> Iterator[Figure]:
    """Yield the race's figures beside their marks."""
    for kind, peer, mark in MARKS:
        mine, theirs = _median(runs, kind, EDGE), _median(runs, kind, peer)
        if mine is None or theirs is None:
            continue
        ratio = mine / theirs
        reached = f"{mine:.1f} µs, {ratio:.2f} x {peer}"
        yield Figure(f"CPU per request, {TITLES[kind]}", EDGE, reached, f"at most {mark} x {peer}", ratio <= mark)
    for kind in ("get", "post"):
        bare, plain = _median(runs, kind, FLOOR), _median(runs, kind, PLAIN)
        if bare is not None and plain is not None:
            reached = f"{bare:.1f} µs, {bare / plain:.2f} x {PLAIN}"
            yield Figure(f"CPU per request, {TITLES[kind]}", FLOOR, reached)


def _median(runs: Iterable[Run], kind: str, proxy: str) -> float | None:
    costs = [run.cpu_us for run in runs if run.kind == kind and run.proxy == proxy and not run.faults]
    return statistics.median(costs) if costs else None


def make_figures(figures: Iterable[Figure]) -> Iterator[str]:
    """Yield a Markdown table of figures."""
    yield "| what | who | reached | mark | met | note |"
    yield "|---|---|---|---|---|---|"
    for one in figures:
        met = "" if one.met is None else "yes" if one.met else "**no**"
        yield f"| {one.title} | {one.who} | {one.reached} | {one.mark} | {met} | {one.note} |"


def write_page(machine: Iterable[str], figures: Sequence[Figure], runs: Sequence[Run], lost: Sequence[str]) -> None:
    """Write the page anew."""
    lines = ["# Performance", "", HOW, *(f"- {line}" for line in machine if line), "", "## Marks", ""]
    lines += make_figures(figures)
    lines += ["", WHERE, "## The race", "", *make_table(runs), *describe_evidence(runs)]
    if lost:
        lines += ["", "## Not measured", "", *(f"- {line}" for line in lost)]
    PAGE.write_text("\n".join(lines).replace("\n\n\n", "\n\n") + "\n")
