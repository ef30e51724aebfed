"""Owns how pools may contradict nodes, listeners and each other.

Must not know what a pool does with its endpoints.
"""

from collections.abc import Iterator

from sovren_edge.config.address import Address, is_loopback, parse_endpoint
from sovren_edge.config.fault import Fault, nearest, one_of
from sovren_edge.config.sketch import ListenerSketch, PoolSketch, Sketch

_EVERY_ADDRESS = {"0.0.0.0", "::"}


def pool_faults(sketch: Sketch) -> Iterator[Fault]:
    """Yield the faults of pools, and of the names by which listeners and tiers speak of them."""
    for listener in sketch.listeners:
        if listener.pool is not None:
            yield from _unknown(sketch, f"{listener.path}.pool", listener.pool)
    for pool in sketch.pools.values():
        for place, tier in pool.tiers.items():
            yield from _unknown(sketch, f"{pool.path}.tiers.{place}", tier)
        yield from _kind_faults(pool)
        yield from _endpoint_faults(sketch, pool)
    yield from _cycles(sketch)
    yield from _loops(sketch)


def _unknown(sketch: Sketch, path: str, name: str) -> Iterator[Fault]:
    if name not in sketch.pools:
        yield Fault(path, f'"{name}"', f"a pool: {one_of(sketch.pools)}", nearest(name, sketch.pools))


def _kind_faults(pool: PoolSketch) -> Iterator[Fault]:
    written = {"endpoints": pool.written_endpoints, "dns": pool.written_dns, "tiers": pool.written_tiers}
    found = [key for key, there in written.items() if there]
    if len(found) != 1:
        yield Fault(pool.path, " and ".join(found) or "none of them", "one of endpoints, dns and tiers")


def _endpoint_faults(sketch: Sketch, pool: PoolSketch) -> Iterator[Fault]:
    """Yield what is no address, and what stands twice."""
    first: dict[object, int] = {}
    for key, texts in (("endpoints", pool.endpoints), ("tiers", pool.tiers)):
        for place, text in texts.items():
            path = f"{pool.path}.{key}.{place}"
            try:
                same = first.setdefault(parse_endpoint(text, sketch.nodes) if key == "endpoints" else text, place)
            except ValueError as error:
                yield Fault(path, f'"{text}"', "host:port or node:port", str(error))
            else:
                if same != place:
                    yield Fault(path, f'"{text}"', f"each of its {key} once", f"{pool.path}.{key}.{same} is the same")


def _cycles(sketch: Sketch) -> Iterator[Fault]:
    """Each cycle of tiers once, from where it is entered first."""
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> Iterator[Fault]:
        if name in trail:
            cycle = " → ".join([*trail[trail.index(name) :], name])
            yield Fault(
                f"pools.{name}.tiers", cycle, "tiers that end in pools with endpoints", "a pool contains itself"
            )
        elif name in sketch.pools and name not in done:
            for tier in sketch.pools[name].tiers.values():
                yield from walk(tier, (*trail, name))
            done.add(name)

    for name in sketch.pools:
        yield from walk(name, ())


def _loops(sketch: Sketch) -> Iterator[Fault]:
    """Endpoints at which one of our own listeners answers."""
    found: dict[str, Fault] = {}
    for listener in sketch.opened:
        for name in sketch.leaves(listener.pool or ""):
            pool = sketch.pools[name]
            for place, text in pool.endpoints.items():
                for door in _doors(sketch, text, listener.node):
                    path = f"{pool.path}.endpoints.{place}"
                    hint = f"{door.path} listens there, so requests would come back to the edge"
                    found.setdefault(path, Fault(path, f'"{text}"', "an address that is not the edge's own", hint))
    yield from found.values()


def _doors(sketch: Sketch, endpoint: str, seen_from: str | None) -> Iterator[ListenerSketch]:
    try:
        address = parse_endpoint(endpoint, sketch.nodes)
    except ValueError:
        return
    for listener in sketch.opened:
        if listener.port == address.port and _is_host_of(sketch, address, listener, seen_from):
            yield listener


def _is_host_of(sketch: Sketch, address: Address, listener: ListenerSketch, seen_from: str | None) -> bool:
    if listener.node is not None and address.host == sketch.nodes.get(listener.node):
        return True
    own = {sketch.bind} if sketch.bind not in _EVERY_ADDRESS else set()
    loopback = sketch.bind in _EVERY_ADDRESS or is_loopback(sketch.bind)
    return listener.node == seen_from and (address.host in own or (loopback and is_loopback(address.host)))
