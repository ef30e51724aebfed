"""Owns the listening sockets of the program: they outlive the workers that accept on them.

Must not know what is served on a port.
"""

from collections.abc import Callable, Collection, Mapping
from socket import socket

from sovren_edge.config.address import LOOPBACK
from sovren_edge.config.plan import Plan
from sovren_edge.process.parts import Part
from sovren_edge.process.sockets import Address, Wanted, bind_all


def wanted_ports(plan: Plan) -> list[Wanted]:
    """Return the ports that a plan needs."""
    return [Wanted(listener.name, listener.bind, listener.port) for listener in plan.listeners]


def addresses_of(plan: Plan) -> set[Address]:
    """Return where a plan's listeners are."""
    return {one.address for one in wanted_ports(plan)}


class Ports:
    """All of them by address; `kept` are those that were bound before.

    `passed` returns copies of those that somebody else, who outlives the program, has bound for it.
    """

    def __init__(
        self,
        backlog: int,
        port_offset: int,
        kept: Mapping[Address, socket],
        passed: Callable[[Collection[Wanted]], Mapping[Address, socket]],
    ) -> None:
        self._backlog = backlog
        self._port_offset = port_offset
        self._bound: dict[Address, socket] = dict(kept)
        self._passed = passed

    def bind(self, plan: Plan, *, engines: bool = False) -> list[Address]:
        """Bind what a plan needs beside what is bound, all of it or nothing; return what is new.

        StartupError names all ports that are taken. With `engines`, the ports of local engines have to be free as well.
        """
        wanted = wanted_ports(plan)
        if engines:
            wanted += [Wanted(engine.name, LOOPBACK, engine.port, ours=False) for engine in plan.engines]
        wanted.sort(key=lambda one: one.port)
        passed, bound = dict(self._passed(wanted)), dict[Address, socket]()
        try:
            bound = bind_all(wanted, self._backlog, self._port_offset, passed | self._bound)
        finally:
            for address, copy in passed.items():
                if bound.get(address) is not copy:
                    copy.close()
        new = [address for address in bound if address not in self._bound]
        self._bound |= bound
        return new

    def of(self, part: Part) -> list[tuple[str, socket]]:
        """Return the sockets of a part's listeners, by the listener's name."""
        return [(one.name, self._bound[one.bind, one.port]) for one in part.plan.listeners]

    def all(self) -> list[tuple[Address, socket]]:
        """Return every socket."""
        return [*self._bound.items()]

    def keep_only(self, plan: Plan) -> None:
        """Close what a plan does not need."""
        self.close(self._bound.keys() - addresses_of(plan))

    def close_part(self, part: Part) -> None:
        """Close the ports of a part: callers are refused from now on."""
        self.close(addresses_of(part.plan))

    def close(self, addresses: "set[Address] | list[Address]") -> None:
        """Close some ports."""
        for address in addresses:
            listening = self._bound.pop(address, None)
            if listening is not None:
                listening.close()
