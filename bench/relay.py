"""Measure the CPU time that the edge spends on a request, beside HAProxy and nginx where they are installed.

Owns the order of the race: everything is started once, then measured in turn, round after round, so that a noisy
minute hits all alike. Must not know how a proxy is configured or a figure is shown.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from evidence import Witness, fields_seen, served_by_models
from figure import Bench, Figure
from load import CONNECTIONS, KINDS, TLS_KINDS, Outcome, run_load
from measures import MEASURES
from models import PORTS, models_command
from page import make_figures, race_figures, write_page
from processes import BenchError, cpu_seconds, pinned, require_free, run, started
from proxies import Proxy, find_program, installed_proxies
from report import TITLES, Run, describe_evidence, describe_machine, make_table

# At most so many probes and looks at counters reach the endpoints in a run.
PROBES = 400


@dataclass(frozen=True, slots=True)
class Runner:
    """A proxy that runs."""

    proxy: Proxy
    process: subprocess.Popen[bytes]
    witness: Witness


def main() -> int:
    """Run the race; return 1 when a run did not count."""
    asked = _parse_arguments()
    wrk = find_program("wrk")
    if sys.platform != "linux" or wrk is None:
        raise BenchError("this needs Linux and wrk. On Debian: apt-get install wrk haproxy nginx")
    usable = sorted(os.sched_getaffinity(0))
    cores = (usable[0], usable[-1])
    machine = list(describe_machine(cores))
    _print_all(machine)
    runs: list[Run] = []
    lost: list[str] = []
    with tempfile.TemporaryDirectory(prefix="sovren-edge-bench-") as folder, pinned(cores[1]):
        bench = Bench(Path(folder), *cores, asked.quick)
        if asked.only in {None, "race"}:
            with ExitStack() as stack:
                runners = _start(stack, bench.work, cores, lost)
                for run in _race(runners, wrk, asked.seconds, asked.rounds):
                    runs.append(run)
                    print(f"{TITLES[run.kind]}, {run.proxy}: {run.cpu_us:.1f} µs", flush=True)
        figures = [*race_figures(runs), *_measure_all(bench, asked.only, lost)]
    _print_all(make_table(runs))
    _print_all(describe_evidence(runs))
    _print_all(make_figures(figures))
    _print_all(lost)
    if asked.only is None and not asked.quick:
        write_page(machine, figures, runs, lost)
    return 1 if lost or any(run.faults for run in runs) else 0


def _measure_all(bench: Bench, only: str | None, lost: list[str]) -> Iterator[Figure]:
    """Take every measurement; one that fails is told of, and ends no other."""
    for name, measure in MEASURES.items():
        if only not in {None, name}:
            continue
        try:
            for figure in measure(bench):
                print(f"{figure.title}, {figure.who}: {figure.reached}", flush=True)
                yield figure
        except (BenchError, OSError, ValueError, subprocess.SubprocessError) as error:
            lost.append(f"{name}: {type(error).__name__}: {error}")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=3, metavar="N", help="length of a run (default 3)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="runs of each proxy (default 5)")
    parser.add_argument("--only", choices=("race", *MEASURES), help="one measurement alone; writes no page")
    parser.add_argument("--quick", action="store_true", help="one round of one second: does it work at all?")
    asked = parser.parse_args()
    if asked.quick:
        asked.seconds = asked.rounds = 1
    if asked.seconds < 1 or asked.rounds < 1:
        parser.error("--seconds and --rounds are at least 1")
    return asked


def _print_all(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _start(stack: ExitStack, work: Path, cores: tuple[int, int], lost: list[str]) -> list[Runner]:
    proxies = installed_proxies(work)
    require_free((*PORTS, *(proxy.port for proxy in proxies)))
    stack.enter_context(started(models_command(find_program("nginx"), work), cores[1], work / "models.out"))
    runners = []
    for proxy in proxies:
        process = stack.enter_context(started(proxy.command, cores[0], proxy.output))
        try:
            seen = fields_seen(proxy)
        except BenchError as error:
            lost.append(f"{proxy.name}: {error}")
            continue
        print(f"{proxy.name} adds " + (", ".join(f"{name}: {value}" for name, value in seen.items()) or "nothing"))
        runners.append(Runner(proxy, process, Witness(proxy)))
    print(flush=True)
    return runners


def _race(runners: list[Runner], wrk: str, seconds: int, rounds: int) -> Iterator[Run]:
    for runner in runners:
        # Connections are opened and memory is taken once; the race is about what comes after that.
        run_load(wrk, "get", runner.proxy.port, 1)
    for _ in range(rounds):
        for kind in KINDS:
            for runner in runners:
                if kind not in TLS_KINDS or runner.proxy.tls_port is not None:
                    yield _measure(runner, kind, wrk, seconds)


def _measure(runner: Runner, kind: str, wrk: str, seconds: int) -> Run:
    witness = runner.witness
    before, served_before = witness.settle(), served_by_models()
    cpu_before = cpu_seconds(runner.process)
    port = runner.proxy.tls_port if kind in TLS_KINDS else runner.proxy.port
    outcome = run_load(wrk, kind, port or 0, seconds)
    witness.wait_logged(before, outcome.requests)
    cpu_us = (cpu_seconds(runner.process) - cpu_before) * 1e6
    known, served = witness.settle().since(before), served_by_models()
    return Run(
        proxy=runner.proxy.name,
        kind=kind,
        completed=outcome.requests,
        cpu_us=cpu_us / max(outcome.requests, 1),
        rate=outcome.rate,
        p99_us=outcome.p99_us,
        logged=known.logged,
        faults=(
            *_load_faults(outcome),
            *known.faults(outcome.requests),
            *_served_faults(outcome, served_before, served),
        ),
    )


def _served_faults(outcome: Outcome, before: int | None, after: int | None) -> Iterator[str]:
    """Yield what the endpoints' own count contradicts; they count probes too, and requests that wrk left open."""
    if before is not None and after is not None and not 0 <= after - before - outcome.requests <= CONNECTIONS + PROBES:
        yield f"the endpoints had {after - before} requests, {outcome.requests} were answered"


def _load_faults(outcome: Outcome) -> Iterator[str]:
    if not outcome.requests:
        yield "no request was answered"
    if outcome.not_2xx:
        yield f"{outcome.not_2xx} answers were not 2xx"
    if outcome.socket_errors:
        yield f"{outcome.socket_errors} socket errors"


if __name__ == "__main__":
    run(main)
