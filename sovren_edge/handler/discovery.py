"""Owns how handlers are found: by their names, among the entry points of installed distributions.

Built-in handlers and strangers' come through the same door. Must not know the configuration: faults are returned, so
that it can report all of them at once.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from inspect import isabstract

from sovren_edge.handler.contract import Handler

GROUP = "sovren_edge.handlers"


def find_handlers(names: Iterable[str]) -> dict[str, type[Handler] | str]:
    """Map each name to its class, or to a sentence that says why there is none; only these names are imported."""
    known = entry_points(group=GROUP)
    return {name: _find(name, known) for name in names}


def _find(name: str, known: EntryPoints) -> type[Handler] | str:
    offers = known.select(name=name)
    if not offers:
        return _unknown(name, known.names)
    if len(offers) > 1:
        return f"more than one distribution offers a handler named {name!r}: {' and '.join(map(_origin, offers))}"
    return _load(next(iter(offers)))


def _unknown(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=3)
    others = sorted(known)
    if near:
        hint = f"did you mean {' or '.join(map(repr, near))}?"
    else:
        hint = f"installed are: {', '.join(others)}" if others else "none is installed"
    return f"no installed distribution offers a handler named {name!r}; {hint}"


def _load(offer: EntryPoint) -> type[Handler] | str:
    place = f"{offer.value}, of {_origin(offer)}"
    try:
        found: object = offer.load()
    except Exception as error:  # noqa: BLE001 - a stranger's import may fail in any way, and none may hide other faults
        return f"the handler {offer.name!r} ({place}) cannot be imported: {type(error).__name__}: {error}"
    if not (isinstance(found, type) and issubclass(found, Handler)):
        return f"the handler {offer.name!r} ({place}) is not a subclass of sovren_edge.handler.Handler"
    if isabstract(found):
        return f"the handler {offer.name!r} ({place}) does not define open()"
    return found


def _origin(offer: EntryPoint) -> str:
    return f"{offer.dist.name} {offer.dist.version}" if offer.dist else "an unnamed distribution"
