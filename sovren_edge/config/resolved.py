"""Owns the parts of a plan: listeners and pools with the addresses that one call gives them.

Must not know how they are found.
"""

from dataclasses import dataclass

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
