"""Owns what is counted of the tree of processes, and its series.

Must not know how any of it comes about.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from sovren_edge.observe.families import counter, gauge
from sovren_edge.observe.registry import Metric
from sovren_edge.process.keeper import Counted, Keeper, State


@dataclass(slots=True)
class Tree:
    """Counters of the whole program; they outlive workers, and upgrades."""

    generation: int
    counted: defaultdict[str, Counted] = field(default_factory=lambda: defaultdict(Counted))
    reloads: Counter[str] = field(default_factory=lambda: Counter({"applied": 0, "refused": 0}))
    upgrades: Counter[str] = field(default_factory=lambda: Counter({"done": 0, "failed": 0, "refused": 0}))


@dataclass(frozen=True, slots=True)
class TreeCollector:
    """The series of the tree."""

    tree: Tree
    keepers: Mapping[str, Keeper]

    def collect(self) -> Iterator[Metric]:
        """See observe.registry.Collector."""
        tree, workers = self.tree, [*self.keepers.items()]
        yield gauge("edge_info", "The running program.", ("version",), [((version("sovren-edge"),), 1)])
        yield gauge("edge_generation", "How often the program was upgraded, and one.", (), [((), tree.generation)])
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
            ((name,), counted.cut) for name, counted in tree.counted.items()
        ])  # fmt: skip
        yield gauge("edge_old_generation", "Workers that finish their requests and end.", (), [
            ((), sum(keeper.retiring is not None for _, keeper in workers))
        ])  # fmt: skip
        yield counter("edge_reloads", "Reloads by what became of them.", ("result",), [
            ((result,), count) for result, count in tree.reloads.items()
        ])  # fmt: skip
        yield counter("edge_upgrades", "Upgrades by what became of them.", ("result",), [
            ((result,), count) for result, count in tree.upgrades.items()
        ])  # fmt: skip
