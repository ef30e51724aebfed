"""What systemd is told and what it hands over, with real sockets and descriptors that a process has inherited."""

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import orjson
import pytest

from sovren_edge.process.sockets import Wanted
from sovren_edge.process.systemd import Notifier, passed_descriptors, passed_sockets, watchdog_s

# The process that systemd would have started: it says which sockets it found, and what they serve.
INHERITING = """
import json, os, sys
from sovren_edge.process.sockets import Wanted
from sovren_edge.process.systemd import passed_descriptors, passed_sockets
environ = {**os.environ, "LISTEN_PID": str(os.getpid())}
wanted = [Wanted(name, host, port) for name, host, port in json.loads(sys.argv[1])]
passed_sockets(environ, os.getpid(), wanted)
passed = passed_sockets(environ, os.getpid(), wanted)  # found again: the first ones were copies
inherited = [number for number in passed_descriptors(environ, os.getpid()) if os.get_inheritable(number)]
print(json.dumps([[*passed.sockets], passed.warnings, inherited]), flush=True)
for listening in passed.sockets.values():
    listening.setblocking(True)
    caller, _ = listening.accept()
    caller.sendall(b"from the inherited one")
"""


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """Yield systemd's end of the notifications, and the environment that leads to it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(name.replace("@", "\0"))
        end.settimeout(5)
        yield end, {"NOTIFY_SOCKET": name}


def test_systemd_is_told_what_happens(systemd: tuple[socket.socket, dict[str, str]]) -> None:
    """One datagram each; a status is one line, so that it can assign nothing."""
    end, environ = systemd
    notifier = Notifier(environ)
    assert notifier.ready("21 ports\nMAINPID=1")
    assert notifier.reloading(12.5)
    assert notifier.status("balance failed")
    assert notifier.alive()
    assert notifier.stopping("draining")
    assert [end.recv(4096).decode().split("\n") for _ in range(5)] == [
        ["READY=1", "STATUS=21 ports MAINPID=1"],
        ["RELOADING=1", "MONOTONIC_USEC=12500000"],
        ["STATUS=balance failed"],
        ["WATCHDOG=1"],
        ["STOPPING=1", "STATUS=draining"],
    ]


def test_without_systemd_nothing_is_told() -> None:
    """And nothing is amiss."""
    assert Notifier({}).ready("")


def test_a_systemd_that_is_gone_is_no_reason_to_fail(tmp_path: Path) -> None:
    """The caller is told."""
    assert not Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).alive()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "2500000"}, 2.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_where_it_watches_this_process(environ: dict[str, str], expected: float | None) -> None:
    """Its time is in microseconds."""
    assert watchdog_s(environ, 7) == expected


@pytest.mark.parametrize(
    "environ", [{}, {"LISTEN_FDS": "2", "LISTEN_PID": "8"}, {"LISTEN_FDS": "two", "LISTEN_PID": "7"}]
)
def test_descriptors_for_another_process_are_not_taken(environ: dict[str, str]) -> None:
    """A parent's environment may have been inherited without its descriptors."""
    assert not passed_descriptors(environ, 7)
    assert passed_sockets(environ, 7, []) == ({}, [])


def listening_on(host: str) -> socket.socket:
    """Bind as systemd does."""
    return socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


@contextmanager
def inherit(wanted: list[Wanted], files: list[socket.socket | IO[bytes]], names: str) -> Iterator[IO[bytes]]:
    """Start a process whose descriptors from 3 on are these; yield what it says."""
    # First out of the way of the numbers that they are to have.
    high = [fcntl.fcntl(file, fcntl.F_DUPFD, 100) for file in files]
    moved = "".join(f"exec {3 + index}<&{number} {number}<&-; " for index, number in enumerate(high))
    told = orjson.dumps([one[:3] for one in wanted])
    with subprocess.Popen(
        ["/bin/bash", "-c", f'{moved}exec "$0" "$@"', sys.executable, "-c", INHERITING, told],
        env={**os.environ, "LISTEN_FDS": str(len(high)), "LISTEN_FDNAMES": names},
        pass_fds=high,
        stdout=subprocess.PIPE,
    ) as process:
        for number in high:
            os.close(number)
        assert process.stdout is not None
        yield process.stdout


def test_inherited_sockets_are_found_by_their_address(tmp_path: Path) -> None:
    """Whatever their names and their order; callers who came before the program are served."""
    with listening_on("127.0.0.1") as first, listening_on("::1") as second, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "unix"))
        one, two = first.getsockname(), second.getsockname()[:2]
        wanted = [Wanted("one", *one), Wanted("elsewhere", "127.0.0.1", 1), Wanted("two", "0::1", two[1])]
        with (
            socket.create_connection(one) as caller,
            socket.create_connection(two) as other,
            inherit(wanted, [second, first, first, unix], "a:b:c:d") as said,
        ):
            found, warnings, inherited = orjson.loads(said.readline())
            assert found == [["0::1", two[1]], [*one]]
            assert warnings == [
                f"descriptor 5 of systemd (c) listens on 127.0.0.1:{one[1]}, as another one does, and is not used",
                "descriptor 6 of systemd (d) is no TCP socket, and not used",
            ]
            assert not inherited
            assert other.recv(100) == caller.recv(100) == b"from the inherited one"


def test_a_socket_that_nobody_wants_is_told() -> None:
    """With the line that was probably meant: systemd binds a bare port to all addresses of IPv6."""
    with (
        listening_on("::1") as strange,
        listening_on("127.0.0.1") as unknown,
        socket.socket() as silent,
        Path(os.devnull).open("rb") as file,
    ):
        port, other = strange.getsockname()[1], unknown.getsockname()[1]
        with inherit([Wanted("tts", "0.0.0.0", port)], [strange, unknown, silent, file], "x") as said:
            found, warnings, _ = orjson.loads(said.readline())
    assert not found
    advice = f"ListenStream=0.0.0.0:{port} would be"
    assert warnings == [
        f"descriptor 3 of systemd (x) listens on [::1]:{port}, which is no listener's; {advice}",
        f"descriptor 4 of systemd (unnamed) listens on 127.0.0.1:{other}, which is no listener's",
        "descriptor 5 of systemd (unnamed) is a connection, and no listening socket (Accept=yes), and not used",
        "descriptor 6 of systemd (unnamed) is no socket (Socket operation on non-socket), and not used",
    ]
