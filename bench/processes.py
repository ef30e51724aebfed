"""Owns the processes that a benchmark starts: on which core they run, their CPU time, and that they end.

Must not know what they do.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import psutil

STOP_S = 10
POLL_S = 0.02


class BenchError(Exception):
    """The benchmark cannot go on; its message is for the person who runs it."""


def run(main: Callable[[], int]) -> NoReturn:
    """Exit with what `main` returns; asked to end, what was started is ended first."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep this process on one core within the block; what is started there inherits it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def started(command: Sequence[str], core: int, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command on one core until the block ends; what it prints goes to `output` and, beside it, `.err`."""
    with output.open("ab") as out, output.with_suffix(".err").open("ab") as err, pinned(core):
        # A session of its own: an interrupt from the terminal reaches us, and we end it in order.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """Return the user and system time of a process and its children, all threads, since their start."""
    root = psutil.Process(process.pid)
    times = [one.cpu_times() for one in (root, *root.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Ask until the answer is yes; return whether it was in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def require_free(ports: Iterable[int]) -> None:
    """Raise BenchError when something listens on one of these ports: it would be measured in our place."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise BenchError(
                    f"port {port} of 127.0.0.1 is needed here and is not free ({error.strerror})"
                ) from None
