"""Owns the parts of a plan: listeners, pools and engines with the addresses that one call gives them.

Must not know how they are found.
"""

from dataclasses import dataclass
from typing import Literal

from pools.settings import PoolSettings
from sovren_edge.config.model import Listener
from sovren_edge.handler import Handler


@dataclass(frozen=True, slots=True)
class PlannedListener:
    """A listener to open: what its table says, and where exactly it is bound; `health` is the body of `/health`."""

    name: str
    kind: str
    service: str
    health: bytes
    bind: str
    port: int
    pool: str | None
    settings: Listener
    handler: Handler | None


@dataclass(frozen=True, slots=True)
class ResolvedEndpoint:
    """An endpoint's name and address; an absent one is never contacted and never ready."""

    name: str
    host: str
    port: int
    absent: bool


@dataclass(frozen=True, slots=True)
class ResolvedPool:
    """A pool with its endpoints, or with the names of its tiers: pools of endpoints in order of preference."""

    name: str
    settings: PoolSettings
    endpoints: tuple[ResolvedEndpoint, ...]
    tiers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlannedEngine:
    """A process of the local stack that serves a port on loopback: what it is called, and what it does."""

    name: str
    port: int
    kind: Literal["speech", "chat"] = "speech"
