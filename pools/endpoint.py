"""Owns one endpoint's state: its slots, its open leases, and whether it is ready.

Must not know the pool that it is in.
"""

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from pools.health import Health
from pools.outlier import Outlier
from pools.settings import ProbeSettings

if TYPE_CHECKING:
    from ssl import SSLContext

SLOW_START_S = 30.0


@dataclass(slots=True)
class ByHand:
    """What an operator has set of an endpoint; what is None was left as it is configured, or as DNS says."""

    enabled: bool | None = None
    slots: int | None = None
    weight: float | None = None


@dataclass(eq=False, slots=True)
class Endpoint:
    """One address. `absent` ones are part of the map but never contacted."""

    name: str
    host: str
    port: int
    slots: int
    probe: ProbeSettings = field(default_factory=ProbeSettings)
    absent: bool = False
    # Whether its operator lets it have leases.
    enabled: bool = True
    # Whether it is still named, where DNS names a pool's endpoints: one that is not gets no more leases, and leaves.
    named: bool = True
    inflight: int = 0
    active_at: float = -inf
    failed_at: float = -inf
    # How it is reached, where that is over TLS; handed on as they came.
    tls: "SSLContext | None" = None
    server_name: str = ""
    health: Health = field(init=False)
    outlier: Outlier = field(init=False, default_factory=Outlier)
    address: bytes = field(init=False)
    # Leases that may be open at once: fewer than the slots after a return.
    limit: int = field(init=False)
    # Whether it has been ready before, or joined those that are: then its next time is a return.
    returning: bool = False
    returned_at: float = -inf
    # Back from an ejection, but not yet seen to succeed.
    probation: bool = False
    # Leases that were open when it returned.
    older: int = 0
    # How much more it is to have than one of weight 1.
    weight: float = 1.0
    # How many slots this process may use, where another one has the others; and whether that has any to lend.
    allotted: int | None = None
    lendable: bool = True

    def __post_init__(self) -> None:
        self.address = (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}").encode()
        self.health = Health(self.probe)
        self.limit = self.slots

    @property
    def ready(self) -> bool:
        """Healthy, enabled, not ejected, and not about to leave."""
        if self.outlier.ejected or self.absent or not self.lendable:
            return False
        return self.health.healthy and self.enabled and self.named

    def refit(self, now: float) -> None:
        """Set the limit anew: after a return it grows from one to all slots in 30 s; on probation it is one.

        Leases that are older than the return are beside that: a call of an hour keeps nobody out.
        """
        if self.allotted is not None:
            self.limit = self.allotted
            return
        grown = 1 + int((now - self.returned_at) / SLOW_START_S * self.slots) if self.returned_at > -inf else self.slots
        self.limit = min(self.slots, self.older + (1 if self.probation else grown))

    def allot(self, slots: int | None, now: float = 0.0) -> None:
        """Let this process use so many slots, or all (None)."""
        self.allotted = slots
        self.refit(now)

    def obey(self, by_hand: ByHand) -> None:
        """Take over what an operator has set, before the first lease."""
        self.enabled = self.enabled if by_hand.enabled is None else by_hand.enabled
        self.slots = self.limit = self.slots if by_hand.slots is None else by_hand.slots
        self.weight = self.weight if by_hand.weight is None else by_hand.weight

    @property
    def usable_in_panic(self) -> bool:
        """Whether it may serve when nobody is ready: it at least accepts connections."""
        return self.health.accepting and self.enabled and self.named and not self.absent

    @property
    def free(self) -> int:
        """Slots that may be leased now."""
        return self.limit - self.inflight
