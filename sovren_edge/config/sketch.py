"""Owns the parts of a file that are well-formed enough to be compared with each other, whatever else is faulty.

Must not report anything: what is malformed here is missing, and the model's own judgement tells of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sovren_edge.config.model import EdgeSettings

Table = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ListenerSketch:
    """A listener; `None` where the file says nothing, or nothing usable."""

    name: str
    kind: str | None
    service: str | None
    node: str | None
    port: int | None
    pool: str | None
    handler: str | None
    settings: Table
    authless: bool
    planned: bool

    @property
    def path(self) -> str:
        """Where it stands in the file."""
        return f"listeners.{self.name}"

    @property
    def called(self) -> str:
        """What its service is called."""
        return self.service or self.name


@dataclass(frozen=True, slots=True)
class PoolSketch:
    """A pool with those endpoints and tiers that are text, each with its place in its list."""

    name: str
    endpoints: Mapping[int, str]
    tiers: Mapping[int, str]
    written_endpoints: bool
    written_tiers: bool
    written_dns: bool

    @property
    def path(self) -> str:
        """Where it stands in the file."""
        return f"pools.{self.name}"


@dataclass(frozen=True, slots=True)
class Sketch:
    """A whole file."""

    nodes: Mapping[str, str]
    bind: str
    database: bool
    tokens: bool
    redis: bool
    gateway_processes: int
    services: Mapping[str, str]
    pools: Mapping[str, PoolSketch]
    listeners: tuple[ListenerSketch, ...]

    @property
    def opened(self) -> Iterator[ListenerSketch]:
        """The listeners that some node opens."""
        return (listener for listener in self.listeners if not listener.planned)

    @property
    def known_services(self) -> Iterator[str]:
        """What services are called: those of listeners that some node opens, and those elsewhere."""
        yield from (listener.called for listener in self.opened)
        yield from self.services

    def leaves(self, pool: str) -> tuple[str, ...]:
        """Return the pools of endpoints that `pool` comes down to, in order of preference, each once."""
        return flatten(pool, {name: tuple(found.tiers.values()) for name, found in self.pools.items()})


def draw(raw: Table) -> Sketch:
    """Sketch a file as it was parsed."""
    processes = _table(raw, "gateway").get("processes")
    return Sketch(
        nodes={name: node for name, node in _table(raw, "nodes").items() if isinstance(node, str)},
        bind=_text(_table(raw, "edge"), "bind") or EdgeSettings().bind,
        database="url" in _table(raw, "database"),
        tokens=not _table(raw, "auth").keys().isdisjoint({"key", "jwks_url"}),
        redis="redis" in _table(raw, "gateway"),
        gateway_processes=processes if isinstance(processes, int) else 1,
        services={name: url for name, url in _table(raw, "services").items() if isinstance(url, str)},
        pools={name: _pool(name, pool) for name, pool in _tables(raw, "pools")},
        listeners=tuple(_listener(name, listener) for name, listener in _tables(raw, "listeners")),
    )


def flatten(pool: str, tiers: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the pools without tiers that `pool` comes down to, in order, each once; unknown pools are left out."""
    found: dict[str, None] = {}
    seen: set[str] = set()

    def descend(name: str) -> None:
        if name in seen or name not in tiers:
            return
        seen.add(name)
        if not tiers[name]:
            found[name] = None
        for tier in tiers[name]:
            descend(tier)

    descend(pool)
    return tuple(found)


def _pool(name: str, table: Table) -> PoolSketch:
    return PoolSketch(
        name=name,
        endpoints=_texts(table, "endpoints"),
        tiers=_texts(table, "tiers"),
        written_endpoints=bool(table.get("endpoints")),
        written_tiers=bool(table.get("tiers")),
        written_dns="dns" in table,
    )


def _listener(name: str, table: Table) -> ListenerSketch:
    port = table.get("port")
    return ListenerSketch(
        name=name,
        kind=_text(table, "kind"),
        service=_text(table, "service"),
        node=_text(table, "node"),
        port=port if isinstance(port, int) else None,
        pool=_text(table, "pool"),
        handler=_text(table, "handler"),
        settings=_table(table, "settings"),
        authless=table.get("auth") == "none",
        planned=table.get("planned") is True,
    )


def _table(raw: Table, key: str) -> Table:
    found = raw.get(key)
    return found if isinstance(found, dict) else {}


def _tables(raw: Table, key: str) -> Iterator[tuple[str, Table]]:
    return ((name, table) for name, table in _table(raw, key).items() if isinstance(table, dict))


def _text(table: Table, key: str) -> str | None:
    found = table.get(key)
    return found if isinstance(found, str) else None


def _texts(table: Table, key: str) -> Mapping[int, str]:
    found = table.get(key)
    return {place: text for place, text in enumerate(found) if isinstance(text, str)} if isinstance(found, list) else {}
