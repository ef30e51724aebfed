"""Owns how late a loop is: its lag, counted, and what has blocked it, named in the log.

Must not know what runs on the loop. A timer on the loop counts how late it is called. A thread beside it looks, only
while the timer is overdue, at what the loop's thread is doing: the loop itself cannot, and afterwards it is too late.
"""

import asyncio
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from time import monotonic
from types import FrameType
from typing import NamedTuple

from structlog.typing import FilteringBoundLogger

from sovren_edge.observe.families import counter, histogram
from sovren_edge.observe.registry import Metric
from sovren_edge.observe.stats import Histogram

TICK_S = 0.05
REMEMBERED_S = 60.0
LAG_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
BLOCKED_S = 0.1
STUCK_S = 5.0
NOWHERE = "no callback"
UNSEEN = "unseen"


class Place(NamedTuple):
    """Where a loop's thread was, as `module.function:line`: in code that is not the standard library's, and in any."""

    where: str
    innermost: str


class LoopLag:
    """How late a loop was: all that was counted, and each value of the last minute; in seconds."""

    def __init__(self) -> None:
        self.counted = Histogram(LAG_BOUNDS_S)
        self._last_minute: deque[float] = deque(maxlen=round(REMEMBERED_S / TICK_S))

    def observe(self, lag_s: float) -> None:
        """Count one tick, and those that it has kept from coming: each would have been late by what was left.

        Otherwise a second without the loop would be one value among twelve hundred, and no percentile would know.
        """
        lag_s = min(lag_s, REMEMBERED_S)
        while True:
            self.counted.observe(lag_s)
            self._last_minute.append(lag_s)
            lag_s -= TICK_S
            if lag_s <= 0:
                return

    @property
    def p99_s(self) -> float | None:
        """What 99 % of the last minute's ticks were not later than."""
        lags = sorted(self._last_minute)
        return lags[(len(lags) * 99 - 1) // 100] if lags else None

    @property
    def max_s(self) -> float | None:
        """How late the latest tick of the last minute was."""
        return max(self._last_minute, default=None)


class LoopWatch:
    """Watches the loop that it is made on, from its first tick until it is closed; `blocked` counts stalls."""

    def __init__(self, log: FilteringBoundLogger, *, blocked_s: float = BLOCKED_S, stuck_s: float = STUCK_S) -> None:
        self.lag = LoopLag()
        self.blocked = 0
        self._log = log
        self._blocked_s = blocked_s
        self._stuck_s = stuck_s
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        # How many frames are outside of every callback: those of whoever runs the loop.
        self._depth = 0
        # Which tick was overdue, and where the loop was then; written by the thread.
        self._seen: tuple[float, Place] | None = None
        self._closed = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop-watch", daemon=True)
        self._due = monotonic()
        self._timer = self._loop.call_soon(self._begin)

    def collect(self) -> Iterator[Metric]:
        """See registry.Collector."""
        yield histogram(
            "edge_loop_lag_seconds", "How late the loop was with what was due.", (), [((), self.lag.counted)]
        )
        yield counter("edge_loop_blocked", "How often something has blocked the loop.", (), [((), self.blocked)])

    @property
    def blocked_at(self) -> Place | None:
        """Where the loop is blocked at this moment."""
        seen = self._seen
        return seen[1] if seen is not None and seen[0] == self._due else None

    def close(self) -> None:
        """Watch no longer."""
        self._timer.cancel()
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    # --- on the loop

    def _begin(self) -> None:
        self._depth = len(_stack(sys._getframe())) - 1  # noqa: SLF001 - there is no other way
        self._wait()
        self._thread.start()

    def _wait(self) -> None:
        self._due = monotonic() + TICK_S
        self._timer = self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        # The loop's own clock stands still while a callback runs.
        lag_s = max(0.0, monotonic() - self._due)
        self.lag.observe(lag_s)
        blocked = lag_s > self._blocked_s
        if blocked:
            self.blocked += 1
            self._say("loop_blocked", lag_s)
        self._wait()
        if blocked:
            # The thread may mean to look at what has ended much later.
            self._wake.set()

    def _say(self, event: str, late_s: float) -> None:
        place = self.blocked_at or Place(UNSEEN, UNSEEN)
        self._log.warning(event, blocked_s=round(late_s, 3), where=place.where, innermost=place.innermost)

    # --- on the thread

    def _watch(self) -> None:
        """Sleep until the next tick would be overdue, which it seldom is."""
        look_at, stuck = 0.0, None
        while True:
            self._wake.wait(max(0.0, look_at - monotonic()))
            if self._closed:
                return
            self._wake.clear()
            due = self._due
            late_s = monotonic() - due
            if late_s <= self._blocked_s:
                look_at = due + self._blocked_s
                continue
            self._see(due)
            if late_s > self._stuck_s and stuck != due:
                stuck = due
                self._say("loop_stuck", late_s)
            # Looking again whenever the time has doubled finds what goes on in the longer half.
            look_at = due + 2 * late_s

    def _see(self, due: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - there is no other way
        if frame is not None:
            self._seen = due, _place(_stack(frame)[self._depth :])


@asynccontextmanager
async def open_loop_watch(
    log: FilteringBoundLogger, *, blocked_s: float = BLOCKED_S, stuck_s: float = STUCK_S
) -> AsyncIterator[LoopWatch]:
    """Watch the running loop until the block ends.

    What blocks it longer than `blocked_s` is logged once it is over (`loop_blocked`); what does not end is logged
    (`loop_stuck`) once it is found to last longer than `stuck_s`.
    """
    watch = LoopWatch(log, blocked_s=blocked_s, stuck_s=stuck_s)
    try:
        yield watch
    finally:
        watch.close()


def _stack(frame: FrameType | None) -> list[FrameType]:
    """Return a frame and all that called it, outermost first."""
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def _place(frames: list[FrameType]) -> Place:
    if not frames:
        return Place(NOWHERE, NOWHERE)
    inner_first = frames[::-1]
    return Place(_name(next(filter(_is_not_standard, inner_first), inner_first[0])), _name(inner_first[0]))


def _is_not_standard(frame: FrameType) -> bool:
    return _module(frame).partition(".")[0] not in sys.stdlib_module_names


def _name(frame: FrameType) -> str:
    return f"{_module(frame)}.{frame.f_code.co_qualname}:{frame.f_lineno}"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "?"))
