"""Loops that are blocked: how late they were, and who has blocked them."""

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from sovren_edge.observe.lag import LAG_BOUNDS_S, TICK_S, LoopLag, LoopWatch, open_loop_watch
from sovren_edge.observe.log import make_logger
from sovren_edge.observe.registry import Source, render

Lines = list[dict[str, object]]
TIMEOUT_S = 20.0


@asynccontextmanager
async def watched(*, blocked_s: float = 0.05, stuck_s: float = TIMEOUT_S) -> AsyncIterator[tuple[LoopWatch, Lines]]:
    """Watch the running loop; yield the watch once it ticks, and what it logs."""
    lines: Lines = []
    log = make_logger(lines.append, "info")  # type: ignore[arg-type]
    async with open_loop_watch(log, blocked_s=blocked_s, stuck_s=stuck_s) as watch:
        await tick(watch)
        yield watch, lines


async def tick(watch: LoopWatch) -> None:
    """Wait for the next tick."""
    before = watch.lag.counted.count
    async with asyncio.timeout(TIMEOUT_S):
        while watch.lag.counted.count == before:  # noqa: ASYNC110 - what is tested tells nobody
            await asyncio.sleep(0.001)


@contextmanager
def event_once(condition: Callable[[], object]) -> Iterator[threading.Event]:
    """Yield an event which a thread sets as soon as a condition holds."""
    event, ended = threading.Event(), threading.Event()

    def look() -> None:
        while not condition() and not ended.is_set():
            time.sleep(0.001)
        event.set()

    thread = threading.Thread(target=look)
    thread.start()
    yield event
    ended.set()
    thread.join()


def block_until(event: threading.Event) -> None:
    """Do what no callback may do."""
    assert event.wait(TIMEOUT_S)


def spin_until(event: threading.Event) -> None:
    """Do so with work, without ever waiting for anything."""
    deadline = time.monotonic() + TIMEOUT_S
    while not event.is_set():
        assert time.monotonic() < deadline


def lines_of(lines: Lines, function: Callable[..., object]) -> Lines:
    """Return what was said of one function: a busy machine adds lines of its own."""
    return [line for line in lines if str(line["where"]).startswith(f"{__name__}.{function.__name__}:")]


def blames(watch: LoopWatch, function: Callable[..., object]) -> bool:
    """Whether the watch has found the loop in a function."""
    place = watch.blocked_at
    return place is not None and place.where.startswith(f"{__name__}.{function.__name__}:")


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Return each kind of loop that the program runs."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


def test_a_task_that_blocks_is_named(runner: asyncio.Runner) -> None:
    """Once it is over, with how long and where: outside of the standard library, and the very place."""

    async def main() -> None:
        async with watched() as (watch, lines):
            with event_once(lambda: blames(watch, block_until)) as seen:
                block_until(seen)
                assert not lines_of(lines, block_until)
                await tick(watch)
            (line,) = lines_of(lines, block_until)
            assert (line["event"], line["level"]) == ("loop_blocked", "warning")
            assert re.fullmatch(rf"{__name__}\.block_until:\d+", str(line["where"]))
            assert re.fullmatch(r"threading\.\w+\.wait:\d+", str(line["innermost"]))
            assert isinstance(line["blocked_s"], float)
            assert 0.05 <= line["blocked_s"] < TIMEOUT_S
            assert watch.blocked == len(lines)
            assert watch.lag.max_s is not None
            assert watch.lag.max_s >= line["blocked_s"] - 0.001

    runner.run(main())


def test_a_callback_that_blocks_is_named(runner: asyncio.Runner) -> None:
    """Also one that no task runs, and that gives nobody else the processor."""

    async def main() -> None:
        async with watched() as (watch, lines):
            with event_once(lambda: blames(watch, spin_until)) as seen:
                asyncio.get_running_loop().call_soon(spin_until, seen)
                await tick(watch)
            assert len(lines_of(lines, spin_until)) == 1

    runner.run(main())


def test_what_blocks_again_is_named_again(runner: asyncio.Runner) -> None:
    """Each stall has one line, however soon it comes after another."""

    async def main() -> None:
        async with watched() as (watch, lines):
            for how in (block_until, spin_until):
                with event_once(lambda how=how: blames(watch, how)) as seen:
                    how(seen)
                    await tick(watch)
                assert len(lines_of(lines, how)) == 1
            assert watch.blocked == len(lines) >= 2

    runner.run(main())


def test_a_loop_that_does_not_come_back_is_named_meanwhile(runner: asyncio.Runner) -> None:
    """Once, and again when it has come back after all."""

    async def main() -> None:
        async with watched(stuck_s=0.2) as (watch, lines):
            with event_once(lambda: [line for line in lines if line["event"] == "loop_stuck"]) as said:
                block_until(said)
            await tick(watch)
            assert [line["event"] for line in lines_of(lines, block_until)] == ["loop_stuck", "loop_blocked"]

    runner.run(main())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_that_waits_is_in_no_callback(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Where a tick is late although nothing runs, the machine was busy, and nobody is blamed."""
    made: list[LoopWatch] = []
    stop: list[Callable[[], object]] = []

    async def main() -> None:
        async with watched() as (watch, _):
            ended, loop = asyncio.Event(), asyncio.get_running_loop()
            stop.append(lambda: loop.call_soon_threadsafe(ended.set))
            made.append(watch)
            await ended.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + TIMEOUT_S
    while not (made and (place := made[0].blocked_at) and place.where == "no callback"):
        assert time.monotonic() < deadline
        if made:
            # As if its own thread had found it late.
            made[0]._see(made[0]._due)  # noqa: SLF001 - a machine that is busy cannot be ordered
    stop[0]()
    thread.join()


async def test_its_series_are_those_of_a_worker() -> None:
    """Without labels: whoever gathers them adds the worker."""
    async with watched() as (watch, _):
        text = render([Source(watch, {"worker": "balance"})]).decode()
    assert 'edge_loop_lag_seconds_bucket{worker="balance",le="0.001"}' in text
    assert 'edge_loop_blocked_total{worker="balance"} ' in text


async def test_nothing_is_left_of_it() -> None:
    """Neither its thread nor its timer, also when it never came to tick."""
    async with open_loop_watch(make_logger(lambda _line: None, "info")):
        pass
    async with watched() as (watch, _):
        pass
    count = watch.lag.counted.count
    await asyncio.sleep(3 * TICK_S)
    assert watch.lag.counted.count == count
    assert "loop-watch" not in {thread.name for thread in threading.enumerate()}


def test_a_stall_weighs_as_much_as_it_lasted() -> None:
    """A second out of a minute is more than a hundredth of it, not one value among twelve hundred."""
    lag = LoopLag()
    assert (lag.p99_s, lag.max_s) == (None, None)
    for _ in range(1180):
        lag.observe(0.0004)
    assert lag.p99_s == 0.0004
    lag.observe(1.0)
    assert lag.max_s == 1.0
    assert lag.p99_s == pytest.approx(0.4)
    assert lag.counted.count == 1200
    assert lag.counted.counts[LAG_BOUNDS_S.index(1.0)] == 10  # those over half a second
    for _ in range(1200):
        lag.observe(0.0)
    assert (lag.p99_s, lag.max_s) == (0.0, 0.0)


@given(st.floats(0, 1e9))
def test_a_stall_counts_in_bounded_time(lag_s: float) -> None:
    """Also one of years."""
    lag = LoopLag()
    lag.observe(lag_s)
    assert 1 <= lag.counted.count <= 1201
