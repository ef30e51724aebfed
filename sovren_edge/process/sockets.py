"""Owns binding: every port before anything starts, and a clear word about ports that are taken.

Must not know what is served on a port.
"""

import errno
import socket
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import psutil

from sovren_edge.errors import StartupError

OFFSETS = range(10_000, 50_001, 1_000)


Address = tuple[str, int]


class Wanted(NamedTuple):
    """A port that is needed; `ours` ones are bound here, others only looked at."""

    name: str
    host: str
    port: int
    ours: bool = True

    @property
    def address(self) -> Address:
        """Where it is."""
        return self.host, self.port


def bind_all(
    wanted: Sequence[Wanted], backlog: int, port_offset: int, kept: Mapping[Address, socket.socket]
) -> dict[Address, socket.socket]:
    """Return a listening socket for every port, those that are kept already among them.

    All are bound or none: StartupError names all that are taken, their holders and an offset that is free.
    """
    bound: dict[Address, socket.socket] = {}
    faults: list[str] = []
    taken = False
    for one in wanted:
        if one.address in kept:
            bound[one.address] = kept[one.address]
            continue
        try:
            listening = _bind(one, backlog)
        except OSError as error:
            faults.append(_describe(one, error))
            taken |= error.errno == errno.EADDRINUSE
            continue
        if one.ours:
            bound[one.address] = listening
        else:
            listening.close()
    if faults:
        for address, listening in bound.items():
            if address not in kept:
                listening.close()
        advice = [_advise(wanted, port_offset)] if taken else []
        raise StartupError("\n".join([*faults, *advice]))
    return bound


def _bind(one: Wanted, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in one.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((one.host, one.port))
        # Without listening, another program could still take the port.
        listening.listen(backlog)
        listening.setblocking(False)  # noqa: FBT003 - the library's signature
    except OSError:
        listening.close()
        raise
    return listening


def _describe(one: Wanted, error: OSError) -> str:
    where = f"port {one.port} ({one.name}) on {one.host}"
    if error.errno != errno.EADDRINUSE:
        return f"{where} cannot be bound: {error.strerror}"
    return f"{where} is taken by {_holder(one.port)}"


def _holder(port: int) -> str:
    try:
        connections = psutil.net_connections("tcp")
    except (OSError, psutil.AccessDenied):
        return "another program (its owner may ask: ss -ltnp)"
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            return _name(connection.pid)
    return "another program (not visible to this user)"


def _name(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        # Of a worker of ours, the program that started it.
        if process.cmdline()[-1:] == ["worker"]:
            process = process.parent() or process
        return f"{process.name()} (pid {process.pid})"
    except psutil.Error:
        return f"a program that has just ended (pid {pid})"


def _advise(wanted: Sequence[Wanted], port_offset: int) -> str:
    for offset in OFFSETS:
        if all(_free(one, one.port - port_offset + offset) for one in wanted):
            return f"free for all of them: --port-offset {offset}"
    return "no --port-offset from 10000 to 50000 is free for all of them"


def _free(one: Wanted, port: int) -> bool:
    if port > 65535:  # noqa: PLR2004 - the last port
        return False
    try:
        _bind(one._replace(port=port), 1).close()
    except OSError:
        return False
    return True
