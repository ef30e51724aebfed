"""The program as its users start it: a process, its ports moved to free ones."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.ports import own_part

ROOT = Path(__file__).resolve().parents[2]
EXECUTABLE = Path(sys.executable).with_name("sovren-edge")
START_S = 60.0
# All ports are below those that the system gives to outgoing connections; from 8000, the lowest that is ours, to the
# highest of a test it is less than `_MAP`: two workers never have the same one.
_MAP = 1_320
_OFFSETS = own_part(range(10_000, 23_900))[:-_MAP:20]


def free_offset(config: Path = ROOT / "config.toml") -> int:
    """Return an offset under which every port of a configuration, and of the local stack, is free."""
    listeners = tomllib.loads(config.read_text(encoding="utf-8"))["listeners"].values()
    ports = [listener["port"] for listener in listeners] + [8100, 8101, 8102, 8103, 8104, 8110]
    for offset in random.sample(_OFFSETS, len(_OFFSETS)):
        if all(_is_free(port + offset) for port in ports):
            return offset
    raise RuntimeError("no offset is free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def until(condition: Callable[[], object], timeout_s: float = START_S) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@dataclass
class Program:
    """A running program."""

    process: subprocess.Popen[bytes]
    offset: int
    state_dir: Path
    output: Path

    def said(self, what: str) -> bool:
        """Whether its log has these words."""
        return what in self.text

    @property
    def text(self) -> str:
        """Everything it has written."""
        return self.output.read_text(encoding="utf-8")

    def descendants(self) -> list[psutil.Process]:
        """Return its processes."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def engine(self, number: int) -> psutil.Process:
        """Return the process of an engine."""
        started = re.findall(rf'local_process_started","name":"tts-tier1-0{number}","pid":(\d+)', self.text)
        return psutil.Process(int(started[-1]))

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def serve(
    state_dir: Path,
    *arguments: str,
    offset: int | None = None,
    env: Mapping[str, str] | None = None,
    ready: str = "serving",
    may_fail: bool = False,
    prefix: tuple[str, ...] = (),
    pass_fds: Sequence[int] = (),
) -> Iterator[Program]:
    """Run `sovren-edge serve` until the block ends; it is entered when the log says `ready`."""
    state_dir.mkdir(parents=True, exist_ok=True)
    output = state_dir / "output.log"
    offset = free_offset() if offset is None else offset
    command = [*prefix, EXECUTABLE, "serve", "--state-dir", state_dir, "--port-offset", str(offset), *arguments]
    with output.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            process_group=0,
            pass_fds=pass_fds,
        )
    program = Program(process, offset, state_dir, output)
    try:
        until(lambda: program.said(f'"event":"{ready}"') or process.poll() is not None)
        assert may_fail or process.poll() is None, program.text
        yield program
    finally:
        if process.poll() is None:
            program.end()


def run(*arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of the program to its end."""
    return subprocess.run(
        [EXECUTABLE, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        timeout=60,
        check=False,
    )
