"""Owns what two generations of the relay tell each other about slots while the older one drains.

Must not know how notes travel, nor what pools decide.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from pools.admission import Event
from pools.handover import Given
from pools.lender import Lender
from pools.pool import Pool
from pools.retired import Retired
from sovren_edge.relay.relay import Relay


class Note(Protocol):
    """What came from the other one."""

    @property
    def given(self) -> Given:
        """What it says, by name."""


class Link(Protocol):
    """The way to the other one: notes arrive in order, until it is closed."""

    def tell(
        self,
        method: str,
        blob: bytes = b"",
        descriptors: Sequence[int] = (),
        **given: Any,  # noqa: ANN401 - whatever JSON knows
    ) -> None:
        """Send a note, if it is not closed."""

    def close(self) -> None:
        """Close it, if it is not closed: nothing more comes of it."""


Take = Callable[[Note], None]


class Predecessor:
    """The older generation, as the newer one sees it; nobody is to be accepted before it is `known` what that holds."""

    _link: Link

    def __init__(self, relay: Relay, pools: Mapping[str, Pool]) -> None:
        self._relay = relay
        self._pools = pools
        self._lenders: dict[str, Lender] = {}
        # Set also when it is gone.
        self.known = asyncio.Event()

    def methods(self) -> dict[str, Take]:
        """Return what it may tell, by name."""
        return {
            "held": self._held, "known": lambda _note: self.known.set(), "returned": self._passing_on(Lender.returned),
            "wanted": self._passing_on(Lender.wanted), "unwanted": self._passing_on(Lender.unwanted),
        }  # fmt: skip

    def begin(self, link: Link) -> None:
        """Answer this way; before, nothing may come."""
        self._link = link

    def closed(self) -> None:
        """Take note that it is gone: nobody else has slots any more."""
        lenders, self._lenders = self._lenders, {}
        for lender in lenders.values():
            self._relay.act(lender.end(self._relay.now()))
        self.known.set()

    def _held(self, note: Note) -> None:
        name = note.given["pool"]
        if name in self._pools:
            lender = self._lenders[name] = Lender(self._pools[name], partial(self._link.tell, pool=name))
            self._relay.act(lender.hold(note.given, self._relay.now()))
        else:
            self._link.tell("alone", pool=name, addresses=list(note.given["leases"]))

    def _passing_on(self, method: Callable[[Lender, Given, float], Sequence[Event]]) -> Take:
        def take(note: Note) -> None:
            # A pool that is not known here is the predecessor's alone.
            lender = self._lenders.get(note.given["pool"])
            if lender is not None:
                self._relay.act(method(lender, note.given, self._relay.now()))

        return take


class Successor:
    """The newer generation, as the older one sees it."""

    def __init__(self, relay: Relay, pools: Mapping[str, Pool]) -> None:
        self._relay = relay
        self._pools = pools
        self._retired: dict[str, Retired] = {}
        self._link: Link | None = None

    def methods(self) -> dict[str, Take]:
        """Return what it may tell, by name."""
        return {
            "alone": self._passing_on(Retired.alone), "lent": self._passing_on(Retired.lent),
            "displaced": self._passing_on(Retired.displaced),
        }  # fmt: skip

    def begin(self, link: Link) -> None:
        """Share slots with it from now on, and tell what is held; also with another one, when the first has died."""
        if self._link is not None:
            self._link.close()
        self._link = link
        for name, pool in self._pools.items():
            retired = self._retired[name] = Retired(pool, partial(link.tell, pool=name))
            self._relay.act(retired.begin(self._relay.now()))
        link.tell("known")

    def _passing_on(self, method: Callable[[Retired, Given, float], Sequence[Event]]) -> Take:
        def take(note: Note) -> None:
            self._relay.act(method(self._retired[note.given["pool"]], note.given, self._relay.now()))

        return take
