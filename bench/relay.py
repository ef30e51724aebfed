"""Measure the CPU time that the edge spends on a request, beside HAProxy and nginx where they are installed.

Owns the order of the race: everything is started once, then measured in turn, round after round, so that a noisy
minute hits all alike. Must not know how a proxy is configured or a figure is shown.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from evidence import Witness, fields_seen
from load import KINDS, Outcome, run_load
from models import PORTS, models_command
from processes import BenchError, cpu_seconds, pinned, require_free, started
from proxies import Proxy, find_program, installed_proxies
from report import Run, describe_evidence, describe_machine, make_table


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
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sovren-edge-bench-")))
        stack.enter_context(pinned(cores[1]))
        _print_all(describe_machine(cores))
        runners = _start(stack, work, cores)
        runs = list(_race(runners, wrk, asked.seconds, asked.rounds))
    _print_all(make_table(runs))
    _print_all(describe_evidence(runs))
    return 1 if any(run.faults for run in runs) else 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=3, metavar="N", help="length of a run (default 3)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="runs of each proxy (default 5)")
    parser.add_argument("--quick", action="store_true", help="one round of one second: does it work at all?")
    asked = parser.parse_args()
    if asked.quick:
        asked.seconds = asked.rounds = 1
    if asked.seconds < 1 or asked.rounds < 1:
        parser.error("--seconds and --rounds are at least 1")
    return asked


def _print_all(lines: Iterator[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _start(stack: ExitStack, work: Path, cores: tuple[int, int]) -> list[Runner]:
    proxies = installed_proxies(work)
    require_free((*PORTS, *(proxy.port for proxy in proxies)))
    stack.enter_context(started(models_command(find_program("nginx"), work), cores[1], work / "models.out"))
    runners = []
    for proxy in proxies:
        process = stack.enter_context(started(proxy.command, cores[0], proxy.output))
        seen = fields_seen(proxy)
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
                yield _measure(runner, kind, wrk, seconds)


def _measure(runner: Runner, kind: str, wrk: str, seconds: int) -> Run:
    witness = runner.witness
    before = witness.settle()
    cpu_before = cpu_seconds(runner.process)
    outcome = run_load(wrk, kind, runner.proxy.port, seconds)
    witness.wait_logged(before, outcome.requests)
    cpu_us = (cpu_seconds(runner.process) - cpu_before) * 1e6
    known = witness.settle().since(before)
    return Run(
        proxy=runner.proxy.name,
        kind=kind,
        completed=outcome.requests,
        cpu_us=cpu_us / max(outcome.requests, 1),
        rate=outcome.rate,
        p99_us=outcome.p99_us,
        logged=known.logged,
        faults=(*_load_faults(outcome), *known.faults(outcome.requests)),
    )


def _load_faults(outcome: Outcome) -> Iterator[str]:
    if not outcome.requests:
        yield "no request was answered"
    if outcome.not_2xx:
        yield f"{outcome.not_2xx} answers were not 2xx"
    if outcome.socket_errors:
        yield f"{outcome.socket_errors} socket errors"


if __name__ == "__main__":
    # Asked to end, what was started is ended first.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
