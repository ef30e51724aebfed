"""Owns the answers to a request for a slot: a lease now, a place in the queue, or a refusal.

Must not know who asks: an owner is handed back as it came.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pools.demand import UNKNOWN, Demand

if TYPE_CHECKING:
    from pools.endpoint import Endpoint
    from pools.pool import Pool


class Refusal(StrEnum):
    """Why nobody may serve a request now."""

    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    TOO_LATE = "deadline_out_of_reach"
    NO_ENDPOINT = "no_endpoint_ready"


class Outcome(StrEnum):
    """How a lease ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # an error from the endpoint, or a connection that broke
    REFUSED = "refused"  # no connection could be made
    LEFT = "left"  # the caller left: says nothing about the endpoint


# The way of nearly every lease; to look a member up in its enumeration costs more than a call.
SUCCEEDED = Outcome.SUCCEEDED


@dataclass(eq=False, slots=True)
class Lease:
    """One request's hold on a slot since a point in time; released exactly once.

    `held_back` once its caller was slow to read: how long it took then says nothing about the endpoint.
    """

    pool: "Pool"
    endpoint: "Endpoint"
    demand: Demand = UNKNOWN
    since: float = 0.0
    estimate_s: float = 0.0
    held_back: bool = False
    released: bool = False
    # What the estimate is of, where there is something to read: see speech.Speech.
    characters: float | None = None
    # Seconds of work, and what counts as such, that were before it when it was given.
    before_s: float = 0.0
    # Whether it counts as work that is still to be done; see speech.Load.
    working: bool = False


@dataclass(eq=False, slots=True)
class Waiter:
    """A place in a pool's queue `until` it is too late; `tried` are endpoints that it must not get."""

    pool: "Pool"
    owner: object
    since: float
    tried: frozenset["Endpoint"]
    until: float
    demand: Demand = UNKNOWN
    estimate_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Granted:
    """A waiter's turn has come."""

    waiter: Waiter
    lease: Lease


@dataclass(frozen=True, slots=True)
class Displaced:
    """A waiter's pool can no longer serve it; another tier may."""

    waiter: Waiter


@dataclass(frozen=True, slots=True)
class Expired:
    """A waiter has waited as long as its pool allows."""

    waiter: Waiter


Event = Granted | Displaced | Expired
