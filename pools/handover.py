"""Owns how two processes share one pool's slots while the older one finishes what it has begun: see retired, lender.

The old one keeps the slots of its open leases, and gives each back that nobody there can use; the new one counts them
as taken. Who waits in the old one stands in the new one's queue as well, and is lent a slot when its turn comes there.
A slot is given up before that is told, so it is never in two hands. Must not know how the two talk, only that what is
told arrives in order, if it arrives at all.
"""

from collections.abc import Callable, Mapping
from math import inf
from typing import Any, TypedDict

from pools.demand import Demand, Priority

Tell = Callable[..., None]
"""`tell(note, **given)` tells the other process something; what is given is JSON."""

Given = Mapping[str, Any]
"""What was told, by name."""


class Holding(TypedDict):
    """Who holds a slot, and the seconds of work that are expected to be left."""

    caller: str
    left_s: float


def pack(demand: Demand, now: float) -> dict[str, object]:
    """Return a demand as JSON; points in time as seconds from now."""
    return demand._asdict() | {
        "priority": int(demand.priority),
        "deadline": None if demand.deadline == inf else demand.deadline - now,
        "due": None if demand.due is None else demand.due - now,
    }


def unpack(packed: Given, now: float) -> Demand:
    """Return a demand that was packed; what is not known of it is passed over."""
    deadline, due = packed["deadline"], packed["due"]
    return Demand(
        characters=packed["characters"], voice=packed["voice"], caller=packed["caller"],
        priority=Priority(packed["priority"]), deadline=inf if deadline is None else now + deadline,
        first=packed["first"], due=None if due is None else now + due, affinity=packed["affinity"],
    )  # fmt: skip
