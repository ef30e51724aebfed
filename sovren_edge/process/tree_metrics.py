"""Owns what is counted of the tree of processes, and its series.

Must not know how any of it comes about.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any, Self

from sovren_edge.observe.families import counter, gauge
from sovren_edge.observe.registry import Metric
from sovren_edge.process.keeper import Counted, Keeper, State


@dataclass(slots=True)
class Counts:
    """Counters of the whole program, `of` each worker by its name; they outlive workers, and upgrades."""

    generation: int = 1
    of: defaultdict[str, Counted] = field(default_factory=lambda: defaultdict(Counted))
    reloads: Counter[str] = field(default_factory=lambda: Counter({"applied": 0, "refused": 0}))
    upgrades: Counter[str] = field(default_factory=lambda: Counter({"done": 0, "failed": 0, "refused": 0}))

    @property
    def cut(self) -> int:
        """Requests that were not finished in time."""
        return sum(counted.cut for counted in self.of.values())

    def outliving(self) -> dict[str, Any]:
        """Return what the next generation goes on with."""
        workers = {name: asdict(counted) for name, counted in self.of.items()}
        return {"reloads": dict(self.reloads), "upgrades": dict(self.upgrades), "workers": workers}

    @classmethod
    def after(cls, generation: int, left: Mapping[str, Any]) -> Self:
        """Go on where the generation before left off."""
        counts = cls(generation + 1)
        counts.reloads.update(left.get("reloads", {}))
        counts.upgrades.update(left.get("upgrades", {}))
        for name, counted in left.get("workers", {}).items():
            counts.of[name] = Counted(counted["restarts"], counted["cut"])
        return counts


@dataclass(frozen=True, slots=True)
class TreeCollector:
    """The series of the tree."""

    counts: Counts
    keepers: Mapping[str, Keeper]

    def collect(self) -> Iterator[Metric]:
        """See observe.registry.Collector."""
        counts, workers = self.counts, [*self.keepers.items()]
        yield gauge("edge_info", "The running program.", ("version",), [((version("sovren-edge"),), 1)])
        yield gauge("edge_generation", "How often the program was upgraded, and one.", (), [((), counts.generation)])
        yield gauge("edge_worker_up", "1 while the worker serves.", ("worker",), [
            ((name,), keeper.state is State.SERVING) for name, keeper in workers
        ])  # fmt: skip
        yield gauge("edge_worker_failed", "1 once it died too often: its ports are closed.", ("worker",), [
            ((name,), keeper.state is State.FAILED) for name, keeper in workers
        ])  # fmt: skip
        yield counter("edge_worker_restarts", "How often the worker died and began anew.", ("worker",), [
            ((name,), keeper.counted.restarts) for name, keeper in workers
        ])  # fmt: skip
        yield counter("edge_requests_cut", "Requests that were not finished in time.", ("worker",), [
            ((name,), counted.cut) for name, counted in counts.of.items()
        ])  # fmt: skip
        yield gauge("edge_old_generation", "Workers that finish their requests and end.", (), [
            ((), sum(keeper.retiring is not None for _, keeper in workers))
        ])  # fmt: skip
        yield counter("edge_reloads", "Reloads by what became of them.", ("result",), [
            ((result,), count) for result, count in counts.reloads.items()
        ])  # fmt: skip
        yield counter("edge_upgrades", "Upgrades by what became of them.", ("result",), [
            ((result,), count) for result, count in counts.upgrades.items()
        ])  # fmt: skip
