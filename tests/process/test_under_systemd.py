"""The whole program as systemd runs it: told when it is ready, fed, handed its ports, and its log moved away."""

import fcntl
import http.client
import re
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil
import pytest
from program import Program, free_offset, serve, until

CONFIG = """
[edge]
bind = "127.0.0.1"

[log]
path = "{log}"

[pools.echo]
endpoints = ["127.0.0.1:1"]

[listeners.echo]
port = 9300
kind = "balance"
pool = "echo"
auth = "none"

[listeners.all]
port = 9301
kind = "status"
auth = "none"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a configuration, whose log is where a test reads what the program writes."""
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(log=tmp_path / "state" / "output.log"), encoding="utf-8")
    return path


def get(port: int, path: str) -> int:
    """Ask a port; return the status."""
    caller = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        caller.request("GET", path)
        return caller.getresponse().status
    finally:
        caller.close()


class Systemd:
    """systemd's end of the notifications."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        end.settimeout(60)
        self.pids: set[int] = set()

    def hear(self, what: str) -> list[str]:
        """Wait for a message that begins with this; return its lines."""
        while True:
            data, [(_, _, credentials)], *_ = self._end.recvmsg(4096, socket.CMSG_SPACE(12))
            self.pids.add(struct.unpack("3i", credentials)[0])
            lines = data.decode().split("\n")
            if lines[0] == what:
                return lines


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    """Listen as systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        yield Systemd(end)


def test_systemd_hears_of_every_change(config: Path, tmp_path: Path, systemd: Systemd) -> None:
    """Always from the process that it has started: it would believe no other (NotifyAccess=main)."""
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    with serve(tmp_path / "state", "--config", str(config), offset=free_offset(config), env=env) as program:
        assert systemd.hear("READY=1") == ["READY=1", "STATUS=serves 2 ports, generation 1"]
        assert get(9300 + program.offset, "/health") == 200
        systemd.hear("WATCHDOG=1")
        for text in (config.read_text(encoding="utf-8"), "faulty"):
            config.write_text(text, encoding="utf-8")
            program.process.send_signal(signal.SIGHUP)
            _, at = systemd.hear("RELOADING=1")
            assert re.fullmatch(r"MONOTONIC_USEC=\d{6,}", at)
            systemd.hear("READY=1")
        config.write_text(CONFIG.format(log=program.output), encoding="utf-8")
        program.process.send_signal(signal.SIGUSR2)
        assert systemd.hear("READY=1") == ["READY=1", "STATUS=serves 2 ports, generation 2"]
        systemd.hear("WATCHDOG=1")
        program.process.send_signal(signal.SIGTERM)
        systemd.hear("STOPPING=1")
        assert program.process.wait(30) == 0
        assert systemd.pids == {program.process.pid}


@pytest.fixture
def handed(config: Path) -> Iterator[tuple[int, dict[int, socket.socket]]]:
    """Bind ports as systemd does: the two that are wanted, and one that is wanted later."""
    offset = free_offset(config)
    with (
        socket.create_server(("127.0.0.1", 9301 + offset)) as status,
        socket.create_server(("127.0.0.1", 9300 + offset)) as echo,
        socket.create_server(("127.0.0.1", 9302 + offset)) as later,
    ):
        yield offset, {9301: status, 9300: echo, 9302: later}


def activated(config: Path, folder: Path, offset: int, sockets: dict[int, socket.socket]) -> "Program":
    """Start the program with sockets from descriptor 3 on, as systemd does."""
    high = [fcntl.fcntl(one, fcntl.F_DUPFD, 100) for one in sockets.values()]
    moved = "".join(f"exec {3 + index}<&{number} {number}<&-; " for index, number in enumerate(high))
    return serve(
        folder / "state", "--config", str(config), offset=offset,
        prefix=("/bin/bash", "-c", f'{moved}export LISTEN_PID=$$; exec "$0" "$@"'),
        env={"LISTEN_FDS": str(len(high))}, pass_fds=high,
    )  # fmt: skip


def test_ports_that_systemd_holds_are_served(
    config: Path, tmp_path: Path, handed: tuple[int, dict[int, socket.socket]]
) -> None:
    """Also those that a reload wants, gives up and takes back, before an upgrade and after."""
    offset, sockets = handed
    plain = config.read_text(encoding="utf-8")
    wider = plain + '\n[listeners.later]\nport = 9302\nkind = "status"\nauth = "none"\n'
    # Somebody calls before the program is there.
    early = socket.create_connection(("127.0.0.1", 9300 + offset), timeout=30)
    early.sendall(b"GET /health HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")
    with activated(config, tmp_path, offset, sockets) as program, early:
        assert early.recv(100).startswith(b"HTTP/1.1 200 ")
        assert program.said(f"listens on 127.0.0.1:{9302 + offset}, which is no listener's")
        reloads = 0
        for text, number in ((wider, 0), (plain, 0), (wider, signal.SIGUSR2), (plain, 0), (wider, 0)):
            config.write_text(text, encoding="utf-8")
            if number:
                program.process.send_signal(number)
                until(lambda: program.said('"event":"took_over"'))
                until(lambda: program.text.count('"event":"serving"') == 2)
            else:
                reloads += 1
                program.process.send_signal(signal.SIGHUP)
                until(lambda count=reloads: program.text.count('"event":"reloaded"') == count)  # type: ignore[misc]
            assert "refused" not in program.text
            assert {get(9300 + offset, "/health"), get(9301 + offset, "/health")} == {200}
            if text is wider:
                assert get(9302 + offset, "/health") == 200
    # They are systemd's: whoever comes now waits for the next start.
    with socket.create_connection(("127.0.0.1", 9300 + offset), timeout=30):
        pass


def holds(process: psutil.Process, path: Path) -> bool:
    """Whether a process has a file open, its standard output and standard error aside."""
    links = [link for link in Path(f"/proc/{process.pid}/fd").iterdir() if int(link.name) > 2]
    # One may be closed while it is looked at.
    return any(link.is_symlink() and link.resolve() == path for link in links)


def test_every_process_leaves_a_log_that_was_moved(config: Path, tmp_path: Path) -> None:
    """After SIGUSR1 the supervisor's lines and its workers' are in the new file; none is lost or torn."""
    with serve(tmp_path / "state", "--config", str(config), offset=free_offset(config)) as program:
        moved = program.output.with_name("output.log.1")
        assert get(9300 + program.offset, "/1") == 503
        program.output.rename(moved)
        processes = [psutil.Process(program.process.pid), *program.descendants()]
        assert len(processes) == 3
        assert all(holds(process, moved) for process in processes)
        program.process.send_signal(signal.SIGUSR1)
        number = 1

        def everybody_has_left() -> bool:
            nonlocal number
            number += 1
            get(9300 + program.offset, f"/{number}")
            return not any(holds(process, moved) for process in processes)

        until(everybody_has_left)
        assert all(holds(process, program.output) for process in processes)
        get(9300 + program.offset, f"/{number + 1}")
        program.end()
        lines = [orjson.loads(line) for line in (moved.read_bytes() + program.output.read_bytes()).splitlines()]
        asked = [line["path"] for line in lines if line["event"] == "request"]
        assert asked == [f"/{count + 1}" for count in range(number + 1)]
        assert program.said('"event":"stopped"')
        assert program.said(f'"path":"/{number + 1}"')
        assert program.output.stat().st_mode & 0o777 == 0o640
