"""A process that logs as it is told: lines on its standard input are commands, each answered by one line."""

import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import orjson

from sovren_edge.observe.log import LogWriter, open_log
from sovren_edge.observe.settings import LogSettings

# Of many lengths, so that a disk is full in the middle of one.
WORDS = "The board meets at nine; the figures are ready, and so is the coffee. " * 6


class LoggingProcess:
    """Starts it, and tells it what to do."""

    def __init__(self, path: Path | str, name: str, stderr: IO[bytes] | None = None) -> None:
        """Let an empty path mean its standard error."""
        self.process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def tell(self, command: str, number: int = 0) -> int:
        """Have it carry out a command; return what it answers."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{command} {number}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> int:
        """Have it write everything and end; return how many lines it has lost."""
        with self.process:
            return self.tell("close")


def serve(path: str, name: str) -> None:
    """Do as told until `close`."""
    logged = 0
    with open_log(LogSettings(path=path)) as (log, writer):
        signal.signal(signal.SIGUSR1, lambda _number, _frame: writer.reopen())
        for line in sys.stdin:
            command, number = line.split()
            match command:
                case "put":
                    for _ in range(int(number)):
                        logged += 1
                        log.info("spoke", name=name, number=logged, words=WORDS[: logged * 7 % len(WORDS)])
                case "limit":
                    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (int(number) or hard, hard))
                case "close":
                    break
            print(_lost(writer) if command == "lost" else logged, flush=True)  # noqa: T201 - its answer
        writer.close()
        print(_lost(writer), flush=True)  # noqa: T201 - its answer


def _lost(writer: LogWriter) -> int:
    (family, *_) = writer.collect()
    return int(family.samples[0].value)


def spoken(*paths: Path) -> dict[str, list[int]]:
    """Return the numbers of whole lines by who logged them; anything but whole lines fails."""
    numbers: dict[str, list[int]] = {}
    for path in paths:
        content = path.read_bytes()
        assert not content or content.endswith(b"\n")
        for line in map(orjson.loads, content.splitlines()):
            if line["event"] == "spoke":
                numbers.setdefault(line["name"], []).append(line["number"])
    return numbers


if __name__ == "__main__":
    serve(*sys.argv[1:])
