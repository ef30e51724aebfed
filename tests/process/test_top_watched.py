"""`sovren-edge top` in a terminal, beside the program itself."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from program import EXECUTABLE, ROOT, run, serve, until

CONFIG = """
[edge]
bind = "127.0.0.1"

[pools.echo]
endpoints = ["127.0.0.1:1", "127.0.0.1:2"]

[listeners.echo]
port = 9300
kind = "balance"
pool = "echo"
auth = "none"
"""
KEY_DOWN = b"\x1b[B"


class Terminal:
    """A terminal of 80 columns and 24 lines with a command in it."""

    def __init__(self, *command: str | Path, **env: str) -> None:
        self._mine, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            command, stdin=its, stdout=its, stderr=its, cwd=ROOT, start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", **env},
        )  # fmt: skip
        os.close(its)
        os.set_blocking(self._mine, False)
        self._written = b""
        self.all_written = b""

    def shows(self, *words: str) -> bool:
        """Whether it has written these words since it was last asked for what it then wrote."""
        self._read()
        if any(word.encode() not in self._written for word in words):
            return False
        self._written = b""
        return True

    def ended(self) -> bool:
        """Whether the command has ended."""
        self._read()
        return self.process.poll() is not None

    def _read(self) -> None:
        # There may be nothing, or nobody who writes any more.
        with suppress(OSError):
            read = os.read(self._mine, 1 << 20)
            self._written += read
            self.all_written += read

    def press(self, keys: bytes) -> None:
        """Type something."""
        os.write(self._mine, keys)

    def close(self) -> None:
        """Take it away."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._mine)


@contextmanager
def watching(state_dir: Path, **env: str) -> Iterator[Terminal]:
    """Watch the program of a state directory."""
    terminal = Terminal(EXECUTABLE, "top", "--state-dir", state_dir, **env)
    try:
        yield terminal
    finally:
        terminal.close()


def test_a_program_is_watched_and_changed_through_its_end_and_beginning(tmp_path: Path) -> None:
    """In a terminal, by keys."""
    config, state_dir = tmp_path / "config.toml", tmp_path / "state"
    config.write_text(CONFIG, encoding="utf-8")
    with serve(state_dir, "--config", str(config), ready="serving") as program, watching(state_dir) as terminal:
        until(lambda: terminal.shows("balance", "echo-01", "echo-02", "unhealthy"))
        terminal.press(KEY_DOWN + b"d")
        until(lambda: terminal.shows("echo-02 gets no new requests"))
        until(lambda: '"endpoint":"echo-02"' in program.text)
        program.end(signal.SIGTERM)
        until(lambda: terminal.shows("no program answers"))
        with serve(state_dir, "--config", str(config), ready="serving", offset=program.offset):
            until(lambda: terminal.shows("echo-01", "echo-02"))
            terminal.press(b"q")
            until(terminal.ended)
            assert terminal.process.returncode == 0


def test_one_look_is_printed(tmp_path: Path) -> None:
    """For scripts, and for people."""
    config, state_dir = tmp_path / "config.toml", tmp_path / "state"
    config.write_text(CONFIG, encoding="utf-8")
    with serve(state_dir, "--config", str(config), ready="serving") as program:
        told = json.loads(run("top", "--once", "--json", "--state-dir", state_dir).stdout)
        assert {port["name"] for port in told["ports"]} == {"echo"}
        (balance,) = [worker for worker in told["workers"] if worker["name"] == "balance"]
        assert balance["state"] == "serving"
        times = told["pools"][0]["endpoints"][0]["ttfa_s"]
        assert (times["count"], times["sum_s"]) == (0, 0.0)
        table = run("top", "--once", "--state-dir", state_dir).stdout
    assert f"{9300 + program.offset} echo" in table
    assert "echo-02" in table


def test_who_wants_no_colours_gets_none(tmp_path: Path) -> None:
    """Nor anything in the colour of the background."""
    with watching(tmp_path, NO_COLOR="1") as terminal:
        until(lambda: terminal.shows("no program answers", "quit"))
        terminal.press(b"\x03")
        until(terminal.ended)
    styles = {code for codes in re.findall(rb"\x1b\[([0-9;]*)m", terminal.all_written) for code in codes.split(b";")}
    assert b"1" in styles
    assert styles <= {b"", b"0", b"1", b"2", b"4", b"7", b"39", b"49"}
