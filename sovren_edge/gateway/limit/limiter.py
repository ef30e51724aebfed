"""Owns the hourly limit of subscribers: an exact log of the times of their grants.

A window is half-open: a grant at `t` counts from `t` until just before `t + window`, and at that very microsecond its
place is free. No window, wherever it begins, ever holds more grants than the limit, those refunded left out: a grant
is made only when fewer than the limit count at that moment, and besides only what was granted before is seeded.

All times are microseconds of one clock that never goes back, and that a restart of the process does not set back
either. If it does go back, time stands still here until it has caught up: to refuse too much for a while is safe.

Must not know what a clock, a request or the ledger is: times, ids and records of the last hour are handed in.
"""

from array import array
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from sovren_edge.gateway.handing import PAGE_BYTES, PAGE_ROWS, Page

MOST_INFLIGHT = 10

RequestId = bytes | str


@dataclass(frozen=True, slots=True)
class Quota:
    """What a subscriber has used of its limit at a moment.

    `next_slot_at_us` is when `remaining` next grows (the present if nothing is used), `full_reset_at_us` when all of it
    is free if nothing is granted until then.
    """

    limit: int
    used: int
    next_slot_at_us: int
    full_reset_at_us: int

    @property
    def remaining(self) -> int:
        """Grants that could be had now."""
        # What was used before a restart may be more than a limit that was lowered by it.
        return max(self.limit - self.used, 0)


@dataclass(frozen=True, slots=True)
class Granted:
    """A request may be sent: its grant counts from `at_us`; `quota` already contains it."""

    at_us: int
    quota: Quota


@dataclass(frozen=True, slots=True)
class Exceeded:
    """The window is full; a slot frees at `quota.next_slot_at_us`, and not before."""

    quota: Quota


@dataclass(frozen=True, slots=True)
class Crowded:
    """The window has room, but as many requests are in flight as may be."""

    quota: Quota


@dataclass(frozen=True, slots=True)
class NotSeeded:
    """The last window is not known yet, so nobody is granted anything."""


Decision = Granted | Exceeded | Crowded | NotSeeded


class Limiter:
    """Grants at most `limit()` requests in any window, and ten in flight, to each subscriber; `limits` has exceptions.

    Both may change meanwhile, to numbers of at least 1, and `limits` is not copied; a lower one takes back no grant.
    A grant in flight is ended by `refund` or `settle`, once; until then its id holds one of the ten. The owner calls
    `seed` for each grant of the last window, or `take` for each page of the limiter that granted before this one, then
    `finish_seeding`, and from then on `sweep` every second or so.
    """

    def __init__(self, limit: Callable[[], int], window_us: int, limits: Mapping[str, int] | None = None) -> None:
        self._limit = limit
        self._limits = {} if limits is None else limits
        self._window_us = window_us
        if min(limit(), window_us, *self._limits.values()) < 1:
            raise ValueError("a limit and its window must be at least 1")
        self._now_us = 0
        self.seeded = False
        # Ascending times. No object around them: each would be one more for every full garbage collection to visit.
        self._logs: dict[str, array[int]] = {}
        # Only of subscribers that have requests in flight.
        self._inflight: dict[str, dict[RequestId, int]] = {}
        # Every subscriber that has a log, once, in the order in which `sweep` looks at them.
        self._order: deque[str] = deque()
        # What has been seeded, until it is no longer needed.
        self._marks: dict[str, array[int]] = {}

    def __len__(self) -> int:
        """Return how many subscribers are remembered."""
        return len(self._logs)

    @property
    def entries(self) -> int:
        """How many grants are remembered."""
        return sum(map(len, self._logs.values()))

    @property
    def inflight(self) -> int:
        """How many requests are in flight."""
        return sum(map(len, self._inflight.values()))

    def flights(self) -> Iterator[tuple[str, RequestId]]:
        """Yield the subscriber and the id of each request in flight."""
        return ((subscriber, each) for subscriber, inflight in self._inflight.items() for each in inflight)

    def seed(self, subscriber: str, request_id: RequestId, at_us: int, now_us: int) -> None:
        """Count a grant that was made before this limiter was; the same id and time told again change nothing.

        A time that has yet to come is taken as the present, the latest at which it can have been.
        """
        if self.seeded:
            raise RuntimeError("a limiter that grants cannot be seeded")
        self._now_us = max(self._now_us, now_us)
        times = self._current(subscriber)
        # Eight bytes instead of an id of up to 36: two of a subscriber's hundred are alike once in 10^15 seedings.
        marks, mark = self._marks.get(subscriber) or array("q"), hash((request_id, at_us))
        if at_us <= self._now_us - self._window_us or mark in marks:
            return
        marks.append(mark)
        self._marks[subscriber] = marks
        insort(times, min(at_us, self._now_us))
        self._remember(subscriber, times)

    def finish_seeding(self) -> None:
        """Begin to grant: all of the last window has been told."""
        self.seeded = True

    def pages(self) -> Iterator[Page]:
        """Yield all that another limiter must know to go on in the place of this one, which grants nothing any more."""
        subscribers, counts, times = list[str](), list[int](), bytearray()
        # It is still swept meanwhile.
        for subscriber in [*self._order]:
            log = self._current(subscriber)
            if not log:
                continue
            subscribers.append(subscriber)
            counts.append(len(log))
            times += log.tobytes()
            if len(times) >= PAGE_BYTES or len(subscribers) >= PAGE_ROWS:
                yield self._page(subscribers, counts, times)
                subscribers, counts, times = [], [], bytearray()
        yield self._page(subscribers, counts, times)
        flights = [(name, each, at_us) for name, ids in self._inflight.items() for each, at_us in ids.items()]
        for first in range(0, len(flights), PAGE_ROWS):
            yield Page({"inflight": flights[first : first + PAGE_ROWS]})

    def _page(self, subscribers: list[str], counts: list[int], times: bytearray) -> Page:
        return Page({"subscribers": subscribers, "counts": counts, "now_us": self._now_us}, bytes(times))

    def take(self, page: Page) -> None:
        """Count what stands on a page of the limiter that granted before this one."""
        if self.seeded:
            raise RuntimeError("a limiter that grants cannot be told what was granted")
        given, end = page.given, 0
        self._now_us = max(self._now_us, given.get("now_us", 0))
        for subscriber, count in zip(given.get("subscribers", ()), given.get("counts", ()), strict=True):
            times, start = array("q"), end
            end += count * times.itemsize
            times.frombytes(page.blob[start:end])
            self._remember(subscriber, times)
        for subscriber, request_id, at_us in given.get("inflight", ()):
            self._inflight.setdefault(subscriber, {})[request_id] = at_us

    def forget(self) -> None:
        """Forget what was told before it grants: all of it is to be told again."""
        self._logs, self._inflight, self._marks = {}, {}, {}
        self._order.clear()

    def grant(self, subscriber: str, request_id: RequestId, now_us: int) -> Decision:
        """Decide whether a request may be sent; one that is in flight has its grant already, and counts once."""
        if not self.seeded:
            return NotSeeded()
        self._now_us = max(self._now_us, now_us)
        times = self._current(subscriber)
        inflight = self._inflight.get(subscriber)
        if inflight is not None and request_id in inflight:
            return Granted(inflight[request_id], self._quota(subscriber, times))
        if len(times) >= self._limits.get(subscriber, self._limit()):
            return Exceeded(self._quota(subscriber, times))
        if inflight is None:
            inflight = self._inflight[subscriber] = {}
        elif len(inflight) >= MOST_INFLIGHT:
            return Crowded(self._quota(subscriber, times))
        at_us = inflight[request_id] = self._now_us
        times.append(at_us)
        self._remember(subscriber, times)
        return Granted(at_us, self._quota(subscriber, times))

    def refund(self, subscriber: str, request_id: RequestId) -> None:
        """Undo the grant of a request in flight that sent nothing; of any other request, change nothing."""
        at_us = self._land(subscriber, request_id)
        times = self._logs.get(subscriber)
        if at_us is None or times is None:
            return
        # Grants of one microsecond are alike: any of them may go. If none is there, its window has passed.
        place = bisect_left(times, at_us)
        if place < len(times) and times[place] == at_us:
            del times[place]

    def settle(self, subscriber: str, request_id: RequestId) -> None:
        """Forget the id of a request that has ended; its grant stays charged."""
        self._land(subscriber, request_id)

    def look(self, subscriber: str, now_us: int) -> Quota:
        """Return what a subscriber has used, and use nothing."""
        self._now_us = max(self._now_us, now_us)
        return self._quota(subscriber, self._current(subscriber))

    def sweep(self, now_us: int, budget: int) -> None:
        """Look at the next so many subscribers in turn, and forget those whose window is empty."""
        self._now_us = max(self._now_us, now_us)
        for _ in range(min(budget, len(self._order))):
            subscriber = self._order.popleft()
            if self._current(subscriber):
                self._order.append(subscriber)
            else:
                del self._logs[subscriber]
        if self.seeded:
            # What only seeding needed goes in steps, too: to free it all at once takes long.
            for _ in range(min(budget, len(self._marks))):
                self._marks.popitem()

    def _current(self, subscriber: str) -> "array[int]":
        """Return a subscriber's times that count now; of an unknown one, an empty log that is not remembered."""
        times = self._logs.get(subscriber)
        if times is None:
            return array("q")
        over_us = self._now_us - self._window_us
        if times and times[0] <= over_us:
            del times[: bisect_right(times, over_us)]
        return times

    def _remember(self, subscriber: str, times: "array[int]") -> None:
        if subscriber not in self._logs:
            self._logs[subscriber] = times
            self._order.append(subscriber)

    def _land(self, subscriber: str, request_id: RequestId) -> int | None:
        """Take an id out of those in flight, and return the time of its grant."""
        inflight = self._inflight.get(subscriber)
        if inflight is None:
            return None
        at_us = inflight.pop(request_id, None)
        if not inflight:
            del self._inflight[subscriber]
        return at_us

    def _quota(self, subscriber: str, times: "array[int]") -> Quota:
        limit, used = self._limits.get(subscriber, self._limit()), len(times)
        if not used:
            return Quota(limit, 0, self._now_us, self._now_us)
        return Quota(limit, used, times[max(used - limit, 0)] + self._window_us, times[-1] + self._window_us)
