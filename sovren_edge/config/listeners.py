"""Owns how listeners may contradict nodes, services and each other, and what they must say in so many words.

Must not know pools: `pools` compares those.
"""

import re
from collections.abc import Iterator

from sovren_edge.config.address import is_loopback
from sovren_edge.config.fault import Fault, nearest, one_of
from sovren_edge.config.sketch import ListenerSketch, Sketch
from sovren_edge.config.violations import show

REFERENCE = "a secret, as in env:NAME or file:PATH"


def listener_faults(sketch: Sketch, bind: str) -> Iterator[Fault]:
    """Yield the faults of listeners that will be bound to the address `bind`."""
    for listener in sketch.listeners:
        yield from _node_faults(sketch, listener)
    yield from _clashes(sketch)
    yield from _service_faults(sketch)
    for listener in sketch.opened:
        if listener.kind == "gateway":
            yield from authless_faults(listener)
        elif listener.kind != "handler":
            yield from openness_faults(listener, bind)
    gateways = [listener for listener in sketch.opened if listener.kind == "gateway"]
    if len(gateways) > 1 and not sketch.redis:
        hint = f"{gateways[1].path} shares one limit with {gateways[0].path}"
        yield Fault("gateway.redis", "nothing", REFERENCE, hint)
    elif gateways and sketch.gateway_processes > 1 and not sketch.redis:
        hint = f"the {sketch.gateway_processes} gateway.processes share one limit"
        yield Fault("gateway.redis", "nothing", REFERENCE, hint)


def _node_faults(sketch: Sketch, listener: ListenerSketch) -> Iterator[Fault]:
    path = f"{listener.path}.node"
    if listener.node is None and sketch.nodes:
        yield Fault(path, "nothing", one_of(sketch.nodes), "where there are nodes, every listener belongs to one")
    if listener.node is not None and listener.node not in sketch.nodes:
        hint = nearest(listener.node, sketch.nodes) or "nodes are named in the table [nodes]"
        yield Fault(path, f'"{listener.node}"', one_of(sketch.nodes), hint)


def _clashes(sketch: Sketch) -> Iterator[Fault]:
    """Two listeners on one address and port; two nodes of one address are one machine."""
    taken: dict[tuple[str | None, int], ListenerSketch] = {}
    for listener in sketch.opened:
        if listener.port is None:
            continue
        place = (sketch.nodes.get(listener.node, listener.node) if listener.node else None, listener.port)
        first = taken.setdefault(place, listener)
        if first is not listener:
            where = f"{listener.port} on {listener.node}" if listener.node else f"{listener.port}"
            yield Fault(f"{listener.path}.port", where, "a port of its own", f"{first.path}.port is the same")


def _service_faults(sketch: Sketch) -> Iterator[Fault]:
    """See that each service is in one place: here, or elsewhere."""
    served = {listener.called: listener for listener in sketch.opened}
    for name, url in sketch.services.items():
        path, found = f"services.{name}", show(url)
        if name in served:
            yield Fault(path, found, "a service that is not ours", f"{served[name].path} serves it")
        for node in sketch.nodes:
            if re.match(rf"https?://{node}[:/]", f"{url}/"):
                yield Fault(path, found, "an address or a full name", f"{node} is {sketch.nodes[node]}")


def gateway_faults(sketch: Sketch) -> Iterator[Fault]:
    """Yield what an opened gateway lacks: it keeps tables, and knows its callers by tokens."""
    for listener in sketch.opened:
        if listener.kind == "gateway" and not sketch.database:
            yield Fault("database.url", "nothing", REFERENCE, f"{listener.path} keeps tables")
        if listener.kind == "gateway" and not sketch.tokens:
            yield key_fault(listener)


def openness_faults(listener: ListenerSketch, bind: str) -> Iterator[Fault]:
    """Yield what is wrong with a listener that does not know its callers: it must say so, but on loopback."""
    if not listener.authless and not is_loopback(bind):
        hint = f'it would be open on {bind}: say auth = "none" if the networks in allow may call it unauthenticated'
        yield Fault(f"{listener.path}.auth", "nothing", '"none"', hint)


def authless_faults(listener: ListenerSketch) -> Iterator[Fault]:
    """Yield what is wrong with a listener that knows its callers by tokens: it cannot do without them."""
    if listener.authless:
        yield Fault(f"{listener.path}.auth", '"none"', "nothing", "it knows its callers by tokens")


def key_fault(listener: ListenerSketch) -> Fault:
    """Return what is told where a listener knows its callers by tokens, and none can be verified."""
    return Fault("auth.key", "nothing", f"{REFERENCE}, or jwks_url", f"{listener.path} knows its callers by tokens")
