"""Owns looking at a worker's pools and changing their endpoints, as operators ask for it.

Must not know who asks, nor how.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pools.endpoint import ByHand, Endpoint
from pools.pool import Pool
from sovren_edge.errors import EdgeError, Side
from sovren_edge.process.composition import Worker
from sovren_edge.relay.metrics import describe_pool

MOST_SLOTS, LEAST_WEIGHT, MOST_WEIGHT = 100_000, 0.01, 100.0


class Change(BaseModel):
    """What is to be different about an endpoint; what is left out stays."""

    model_config = ConfigDict(strict=True, extra="forbid")

    enabled: bool | None = None
    slots: Annotated[int, Field(ge=1, le=MOST_SLOTS)] | None = None
    weight: Annotated[float, Field(ge=LEAST_WEIGHT, le=MOST_WEIGHT)] | None = None


def read_change(body: bytes) -> Change:
    """Return what is to be changed; raises EdgeError 422, which names the place of each fault, no value."""
    try:
        return Change.model_validate_json(body)
    except ValidationError as error:
        faults = [f"{fault['loc'][0] if fault['loc'] else 'body'}: {fault['msg']}" for fault in error.errors()]
        raise EdgeError(422, "invalid_change", "; ".join(faults), side=Side.CALLER) from None


class PoolCommands:
    """The commands."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._relay = worker.relay

    def describe(self) -> list[dict[str, object]]:
        """Return every pool's state."""
        return [self._describe(pool) for pool in self._worker.pools.values()]

    def change(self, name: str, change: Change) -> dict[str, Any]:
        """Change an endpoint; return its pool's state. EdgeError 404 if there is none of that name."""
        for pool in self._worker.pools.values():
            for endpoint in pool.endpoints:
                if endpoint.name == name:
                    self._apply(pool, endpoint, change)
                    return self._describe(pool)
        raise EdgeError(404, "unknown_endpoint", f"No endpoint is named {name}.", side=Side.CALLER)

    def obey(self, by_hand: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        """Take over what operators have set before this worker was: by pool and address."""
        for pool in self._worker.pools.values():
            mine = {address: ByHand(**change) for address, change in by_hand.get(pool.name, {}).items()}
            pool.obey(mine, self._relay.now())

    def kept(self) -> list[dict[str, object]]:
        """Return what each pool keeps of answers."""
        described = []
        for name, pool in self._worker.pools.items():
            if pool.settings.keep_bytes:
                stats = self._relay.stats_of(pool)
                described.append({
                    "pool": name, "answers": stats.kept_answers, "bytes": stats.kept_bytes,
                    "limit": pool.settings.keep_bytes, "served": stats.kept_served,
                })  # fmt: skip
        return described

    def forget_kept(self) -> int:
        """Forget all kept answers; return how many there were."""
        return sum(keep.clear() for keep in self._worker.keeps.values())

    def _describe(self, pool: Pool) -> dict[str, object]:
        return describe_pool(pool, self._relay.stats_of(pool))

    def _apply(self, pool: Pool, endpoint: Endpoint, change: Change) -> None:
        now = self._relay.now()
        if change.weight is not None:
            pool.weigh(endpoint, change.weight)
        if change.slots is not None:
            self._relay.act(pool.resize(endpoint, change.slots, now))
        if change.enabled is not None:
            self._relay.act(pool.enable(endpoint, now, enabled=change.enabled))
