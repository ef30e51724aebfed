"""Owns what is printed: the machine, the versions, the table and what the figures rest on.

Must not know how anything was measured.
"""

import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from load import CONNECTIONS, KINDS
from proxies import EDGE, PLAIN, find_program

TITLES = {
    "get": "small GET",
    "post": "small POST, nine header fields",
    "varied": "GET, never the same bytes twice",
    "tls": "GET over TLS, kept alive",
    "handshake": "GET over TLS, a handshake each",
}


ASKED = (
    ("haproxy", "-v", r"version (\S+)"),
    ("nginx", "-v", r"nginx/(\S+)"),
    ("envoy", "--version", r"/(\d+\.\d+\.\d+)/"),
    ("traefik", "version", r"Version:\s+(\S+)"),
    ("caddy", "version", r"^v(\S+)"),
    ("wrk", "-v", r"wrk (\S+)"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement; `faults` say why it does not count, `logged` is None where the proxy keeps no log."""

    proxy: str
    kind: str
    completed: int
    cpu_us: float
    rate: float
    p99_us: int
    logged: int | None
    faults: tuple[str, ...]


def describe_machine(cores: tuple[int, int]) -> Iterator[str]:
    """Yield lines on where and with what this is measured."""
    yield f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {_cpu_model()}, {platform.system()} {platform.release()}"
    yield f"proxy on core {cores[0]}, load and models on core {cores[1]}, {CONNECTIONS} connections, keep-alive"
    if cores[0] == cores[1]:
        yield "only one core may be used here: proxy, load and models share it, and the figures are worth little"
    yield ", ".join(_versions())
    yield ""


def _cpu_model() -> str:
    named = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return named[1] if named else platform.machine()


def _versions() -> Iterator[str]:
    yield f"Python {platform.python_version()}"
    yield _said([str(Path(sys.executable).with_name("sovren-edge")), "--version"], r"version (\S+)", "sovren-edge {}")
    for name, option, pattern in ASKED:
        program = find_program(name)
        yield _said([program, option], pattern, name + " {}") if program else f"{name} is not installed"


def _said(command: Sequence[str], pattern: str, form: str) -> str:
    # Asked for their version, some programs answer on standard error and some with a status of 1.
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(pattern, said.stdout + said.stderr, re.MULTILINE)
    return form.format(found[1] if found else "of unknown version")


def make_table(runs: Iterable[Run]) -> Iterator[str]:
    """Yield a Markdown table: CPU time in microseconds per request, and its median beside plain HAProxy's."""
    counting = [run for run in runs if not run.faults]
    yield "| request | proxy | runs | CPU µs, min | median | max | ratio to HAProxy | requests/s | p99 ms |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|"
    for kind in KINDS:
        of_kind = [run for run in counting if run.kind == kind]
        base = [run.cpu_us for run in of_kind if run.proxy == PLAIN]
        for proxy in dict.fromkeys(run.proxy for run in of_kind):
            yield _row(kind, proxy, [run for run in of_kind if run.proxy == proxy], base)


def _row(kind: str, proxy: str, runs: Sequence[Run], base: Sequence[float]) -> str:
    costs = [run.cpu_us for run in runs]
    median = statistics.median(costs)
    ratio = f"{median / statistics.median(base):.2f}" if base else "-"
    rate = statistics.median(run.rate for run in runs)
    p99_ms = statistics.median(run.p99_us for run in runs) / 1000
    figures = f"{min(costs):.1f} | {median:.1f} | {max(costs):.1f} | {ratio} | {rate:,.0f} | {p99_ms:.1f}"
    return f"| {TITLES[kind]} | {proxy} | {len(runs)} | {figures} |"


def describe_evidence(runs: Sequence[Run]) -> Iterator[str]:
    """Yield lines on what the figures rest on, and on every run that does not count."""
    yield ""
    edge = [run for run in runs if run.proxy == EDGE and not run.faults]
    if edge:
        completed, logged = sum(run.completed for run in edge), sum(run.logged or 0 for run in edge)
        yield (
            f"{EDGE}: {completed:,} requests answered; {logged:,} lines in its log, as many in /metrics. "
            f"The {logged - completed:,} more were open when wrk stopped (at most {CONNECTIONS} a run)."
        )
    for run in runs:
        for fault in run.faults:
            yield f"does not count: {run.proxy}, {TITLES[run.kind]}: {fault}"
