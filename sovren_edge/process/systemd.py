"""Owns what systemd is told and what it hands over: readiness, the watchdog, ports that it has bound.

Must not know what is served. Where there is no systemd, all of this does nothing. See sd_notify(3), sd_listen_fds(3).
"""

import os
import socket
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from typing import NamedTuple

from sovren_edge.process.sockets import Address, Wanted

FIRST_DESCRIPTOR = 3
# So long a message waits for a systemd that is busy.
PATIENCE_S = 1.0


class Notifier:
    """Tells systemd how the program is doing; `environ` is what systemd has started it with."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # An @ stands for the zero byte before a name that is not in the file system.
        self._address = "\0" + path[1:] if path.startswith("@") else path

    def ready(self, status: str) -> bool:
        """Say that it serves; also when it does so again after a reload."""
        return self._tell("READY=1", _status(status))

    def reloading(self, now: float) -> bool:
        """Say that it applies its configuration anew, as of `now` on the monotonic clock; `ready` ends it."""
        return self._tell("RELOADING=1", f"MONOTONIC_USEC={int(now * 1e6)}")

    def stopping(self, status: str) -> bool:
        """Say that it is about to end."""
        return self._tell("STOPPING=1", _status(status))

    def status(self, status: str) -> bool:
        """Say in one line what `systemctl status` shows."""
        return self._tell(_status(status))

    def alive(self) -> bool:
        """Feed the watchdog."""
        return self._tell("WATCHDOG=1")

    def _tell(self, *assignments: str) -> bool:
        """Send one message; return False if there is a systemd that did not take it."""
        if not self._address:
            return True
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.settimeout(PATIENCE_S)
                end.sendto("\n".join(assignments).encode(), self._address)
        except OSError:
            return False
        return True


def _status(text: str) -> str:
    # A second line would be read as an assignment.
    return f"STATUS={' '.join(text.split())}"


def watchdog_s(environ: Mapping[str, str], pid: int) -> float | None:
    """Return how long systemd lets this process be silent; None if it does not watch over it."""
    within_us = environ.get("WATCHDOG_USEC", "")
    if not within_us.isdecimal() or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(within_us) / 1e6 or None


class Passed(NamedTuple):
    """Listening sockets that systemd has bound, by address, and what is odd about those that are not among them."""

    sockets: dict[Address, socket.socket]
    warnings: list[str]


def passed_descriptors(environ: Mapping[str, str], pid: int) -> range:
    """Return the descriptors that systemd has handed to this process; they outlive an exec if they are made to."""
    count = environ.get("LISTEN_FDS", "")
    mine = count.isdecimal() and environ.get("LISTEN_PID") == str(pid)
    return range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + (int(count) if mine else 0))


def passed_sockets(environ: Mapping[str, str], pid: int, wanted: Collection[Wanted]) -> Passed:
    """Return those of systemd's sockets that are wanted, found by where they are bound, whatever their names.

    They are copies, for the caller to close. systemd's own stay: what one reload closes, the next one may want.
    """
    passed = Passed({}, [])
    # An address can be written in several ways, and is found in one.
    addresses = {(str(ip_address(one.host)), one.port): one.address for one in wanted}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    for index, descriptor in enumerate(passed_descriptors(environ, pid)):
        where = f"descriptor {descriptor} of systemd ({names[index] if index < len(names) else 'unnamed'})"
        found = _look_at(descriptor)
        if isinstance(found, str):
            passed.warnings.append(f"{where} is {found}, and not used")
        elif found not in addresses:
            passed.warnings.append(
                f"{where} listens on {_written(found)}, which is no listener's{_advice(found, wanted)}"
            )
        elif addresses[found] in passed.sockets:
            passed.warnings.append(f"{where} listens on {_written(found)}, as another one does, and is not used")
        else:
            passed.sockets[addresses[found]] = _copy(descriptor)
    return passed


def _look_at(descriptor: int) -> Address | str:
    """Return where a descriptor listens, or what it is instead."""
    try:
        # Our workers have sockets of their own: they do not inherit it.
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the library's signature
        looked_at = socket.socket(fileno=descriptor)
    except OSError as error:
        return f"no socket ({error.strerror})"
    try:
        if looked_at.family not in {socket.AF_INET, socket.AF_INET6} or looked_at.type != socket.SOCK_STREAM:
            return "no TCP socket"
        if not looked_at.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return "a connection, and no listening socket (Accept=yes)"
        host, port = looked_at.getsockname()[:2]
        return host, port
    finally:
        looked_at.detach()


def _copy(descriptor: int) -> socket.socket:
    copy = socket.socket(fileno=os.dup(descriptor))
    copy.setblocking(False)  # noqa: FBT003 - the library's signature
    return copy


def _advice(found: Address, wanted: Collection[Wanted]) -> str:
    """Return how the socket would be written that was probably meant: systemd binds a bare port to all of IPv6."""
    meant = [f"; ListenStream={_written(one.address)} would be" for one in wanted if one.port == found[1]]
    return "".join(meant[:1])


def _written(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
