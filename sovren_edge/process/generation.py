"""Owns what one generation of the supervisor leaves to the next, which has the same process id: an upgrade.

Must not know what workers do. It is read by other versions of this program: what is left out has a default.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

NAME = "SOVREN_EDGE_GENERATION"


@dataclass(frozen=True, slots=True)
class LeftLife:
    """A running worker: its process, and the descriptor of our end of the channel to it."""

    name: str
    pid: int
    descriptor: int


@dataclass(frozen=True, slots=True)
class Left:
    """What is left; `sockets` are descriptors by address and port, `by_hand` what operators have set."""

    generation: int
    lives: tuple[LeftLife, ...] = ()
    sockets: tuple[tuple[str, int, int], ...] = ()
    by_hand: Mapping[str, Any] = field(default_factory=dict)
    database_url: str | None = None
    counted: Mapping[str, Any] = field(default_factory=dict)
    upgrades: int = 0

    def leave(self) -> dict[str, str]:
        """Return an environment variable by which the next program finds all of it; descriptors stay open for it."""
        holder = os.memfd_create("generation", 0)
        os.write(holder, orjson.dumps(asdict(self)))
        for descriptor in (*(life.descriptor for life in self.lives), *(one[2] for one in self.sockets)):
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - the library's signature
        return {NAME: str(holder)}


def find_left(environ: Mapping[str, str]) -> Left | None:
    """Return what the program before this one has left under the same process id, if there was one."""
    if NAME not in environ:
        return None
    with os.fdopen(int(environ[NAME]), "rb") as holder:
        holder.seek(0)
        found = orjson.loads(holder.read())
    lives = tuple(LeftLife(**life) for life in found.pop("lives"))
    sockets = tuple((host, port, descriptor) for host, port, descriptor in found.pop("sockets"))
    for descriptor in (*(life.descriptor for life in lives), *(one[2] for one in sockets)):
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the library's signature
    known = {name: value for name, value in found.items() if name in Left.__slots__}
    return Left(lives=lives, sockets=sockets, **known)
