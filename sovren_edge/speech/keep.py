"""Owns complete answers that are kept in memory for equal requests that come later; off unless a pool asks for it.

The answer that was used longest ago goes first. Must not know where answers come from, nor when requests are equal.
"""

from collections import OrderedDict
from dataclasses import dataclass

from pools.admission import Outcome
from sovren_edge.http.response import ResponseHead, may_be_kept, of_age
from sovren_edge.observe.stats import PoolStats
from sovren_edge.relay.taker import Taker

# What an answer costs beside its body: its head, its request and what holds them together.
OVERHEAD = 2048


@dataclass(frozen=True, slots=True)
class Kept:
    """One answer, kept since a point in time."""

    head: ResponseHead
    body: bytes
    since: float


class Keep:
    """The answers of one pool, at most so many bytes of them."""

    def __init__(self, limit: int, stats: PoolStats) -> None:
        self.limit = limit
        self._stats = stats
        self._answers: OrderedDict[bytes, Kept] = OrderedDict()

    def find(self, key: bytes) -> Kept | None:
        """Return the answer to a request."""
        kept = self._answers.get(key)
        if kept is not None:
            self._answers.move_to_end(key)
            self._stats.kept_served += 1
        return kept

    def put(self, key: bytes, head: ResponseHead, pieces: list[bytes], now: float) -> None:
        """Keep a complete answer, if it may be kept and is not too large."""
        kept = Kept(head, b"".join(pieces), now)
        size = self._size(key, kept)
        if not may_be_kept(head) or size > self.limit:
            return
        self._drop(key)
        self._answers[key] = kept
        self._stats.kept_answers += 1
        self._stats.kept_bytes += size
        while self._stats.kept_bytes > self.limit:
            self._drop(next(iter(self._answers)))

    def clear(self) -> int:
        """Forget everything; return how many answers there were."""
        count = len(self._answers)
        for key in tuple(self._answers):
            self._drop(key)
        return count

    def _drop(self, key: bytes) -> None:
        kept = self._answers.pop(key, None)
        if kept is not None:
            self._stats.kept_answers -= 1
            self._stats.kept_bytes -= self._size(key, kept)

    def _size(self, key: bytes, kept: Kept) -> int:
        return len(kept.body) + len(key) + OVERHEAD


class Memory:
    """Supplies an answer that was kept: see exchange.Supplier."""

    endpoint, queue_s, tries, write_paused = "", 0.0, 0, False
    # Nobody was asked.
    pool = None

    def __init__(self, kept: Kept, taker: Taker, idle_s: float) -> None:
        self._kept = kept
        self._taker = taker
        self.idle_s = idle_s

    def ask(self, now: float) -> None:
        """Answer at once."""
        head = of_age(self._kept.head, len(self._kept.body), int(now - self._kept.since))
        self._taker.answered_whole(head, self._kept.body, now)
        self._taker.ended(now)

    def write(self, pieces: list[bytes]) -> None:
        """See exchange.Supplier; all of the request is at hand."""

    def body_sent(self, now: float) -> None:
        """See exchange.Supplier; it was complete before."""

    def write_eof(self) -> bool:
        """See exchange.Supplier; this is no tunnel."""
        return False

    def pause(self, *, paused: bool) -> None:
        """See exchange.Supplier; everything has been given."""

    def stop(self, outcome: Outcome, now: float) -> None:
        """See exchange.Supplier; there is no work to end."""

    def explain(self) -> dict[str, object]:
        """See exchange.Supplier."""
        return {"why": "an equal request had this answer"}
