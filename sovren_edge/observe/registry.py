"""Owns metrics as Prometheus reads them: sources of families, and their text.

Must not know what is measured.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.metrics_core import Metric as Metric  # noqa: PLC0414 - exported: prometheus_client stays in this room
from prometheus_client.registry import Collector as Registered

from sovren_edge.observe.stats import DURATION_BOUNDS_S

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Collector(Protocol):
    """Anything that yields metric families when asked."""

    def collect(self) -> Iterable[Metric]:
        """Yield families as they stand now."""


@dataclass(frozen=True, slots=True, eq=False)
class _Counted(Registered):
    """A counter whose numbers are somebody else's."""

    name: str
    help_text: str
    labels: Sequence[str]
    read: Callable[[], Mapping[tuple[str, ...], int]]

    def describe(self) -> Iterable[Metric]:
        yield self._family()

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        for labels, count in self.read().items():
            family.add_metric(labels, count)
        yield family

    def _family(self) -> CounterMetricFamily:
        return CounterMetricFamily(self.name, self.help_text, labels=self.labels)


class Metrics:
    """Makes one listener's metrics; a name is `[a-z_]+` and is made once."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        """Make a counter; its series end in `_total`."""
        return Counter(name, help_text, labels, registry=self.registry)

    def counted(
        self,
        name: str,
        help_text: str,
        read: Callable[[], Mapping[tuple[str, ...], int]],
        labels: Sequence[str] = (),
    ) -> None:
        """Make a counter of plain numbers, by the values of its labels, which are read whenever somebody looks."""
        self.registry.register(_Counted(name, help_text, labels, read))

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge:
        """Make a gauge."""
        return Gauge(name, help_text, labels, registry=self.registry)

    def histogram(
        self, name: str, help_text: str, labels: Sequence[str] = (), buckets: Sequence[float] = DURATION_BOUNDS_S
    ) -> Histogram:
        """Make a histogram; `buckets` are upper bounds."""
        return Histogram(name, help_text, labels, buckets=buckets, registry=self.registry)


@dataclass(frozen=True, slots=True)
class Source:
    """A collector, and labels that are added to each of its series."""

    collector: Collector
    labels: Mapping[str, str] = field(default_factory=dict)


Family = tuple[str, str, str, list[tuple[str, dict[str, str], float | str]]]
"""A family as JSON knows it: name, help, type, and of each sample name, labels and value (as text if not finite)."""


def families(sources: Iterable[Source]) -> list[Family]:
    """Return all series in a form that another process can be told."""
    return [
        (
            family.name,
            family.documentation,
            family.type,
            [
                (
                    sample.name,
                    {**source.labels, **sample.labels},
                    sample.value if isfinite(sample.value) else str(sample.value),
                )
                for sample in family.samples
            ],
        )
        for source in sources
        for family in source.collector.collect()
    ]


@dataclass(frozen=True, slots=True)
class Told:
    """Series that another process has told."""

    families: Sequence[Family]

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        for name, documentation, kind, samples in self.families:
            family = Metric(name, documentation, kind)
            for sample, labels, value in samples:
                family.add_sample(sample, labels, float(value))
            yield family


def render(sources: Iterable[Source]) -> bytes:
    """Write the text format of Prometheus: plain decimals, families of one name together, no `_created` series."""
    heads: dict[str, str] = {}
    lines: dict[str, list[str]] = {}
    for source in sources:
        for family in source.collector.collect():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            heads.setdefault(name, f"# HELP {name} {_escaped(family.documentation)}\n# TYPE {name} {family.type}\n")
            lines.setdefault(name, []).extend(
                f"{sample.name}{_labels({**source.labels, **sample.labels})} {decimal(sample.value)}\n"
                for sample in family.samples
                if not sample.name.endswith("_created")
            )
    return "".join(heads[name] + "".join(lines[name]) for name in heads).encode()


def decimal(value: float) -> str:
    """Write a number without an exponent, which some parsers do not know."""
    if value != value or value in {float("inf"), float("-inf")}:  # noqa: PLR0124 - only NaN differs from itself
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(value), "NaN")
    if value == int(value):
        return str(int(value))
    return f"{value:.9f}".rstrip("0")


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value, quote=True)}"' for name, value in labels.items()) + "}"


def _escaped(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text
