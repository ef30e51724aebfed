"""Jobs that are joined, and values that are read again: with a clock of the test's own."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.coalescing import Coalescing
from sovren_edge.gateway.reread import Reread

FRESH_S = 10.0


@dataclass
class Source:
    """Where values come from; it answers when it is open, and raises what it was told to."""

    values: dict[str, int] = field(default_factory=lambda: {"a": 1, "b": 2, "c": 3})
    reads: list[str] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None
    now_s: float = 0.0

    async def read(self, key: str) -> int:
        """Return a value."""
        self.reads.append(key)
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return self.values[key]


@pytest.fixture
def source() -> Source:
    """Return a source that answers at once."""
    source = Source()
    source.open.set()
    return source


@pytest.fixture
async def values(source: Source) -> AsyncIterator[Reread[str, int]]:
    """Return two values at most, read from the source."""
    async with asyncio.TaskGroup() as tasks:
        yield Reread(source.read, tasks.create_task, lambda: source.now_s, fresh_s=FRESH_S, most=2)


async def settled() -> None:
    """Let what is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


def away() -> EdgeError:
    """Return what a source raises that is away."""
    return EdgeError(503, "database_unavailable", "away")


async def test_a_fresh_value_is_not_read_again(source: Source, values: Reread[str, int]) -> None:
    """An older one is, and its change is in force for whoever asks."""
    assert [await values.get("a"), await values.get("a")] == [1, 1]
    source.values["a"] = 5
    source.now_s = FRESH_S - 1
    assert await values.get("a") == 1
    source.now_s = FRESH_S
    assert await values.get("a") == 5
    assert source.reads == ["a", "a"]


async def test_equal_readings_are_one(source: Source, values: Reread[str, int]) -> None:
    """And a caller that leaves takes nothing from the others."""
    source.open.clear()
    first, *others = [asyncio.create_task(values.get("a")) for _ in range(5)]
    await settled()
    first.cancel()
    source.open.set()
    assert await asyncio.gather(*others) == [1, 1, 1, 1]
    assert source.reads == ["a"]


async def test_what_is_known_serves_while_it_cannot_be_read(source: Source, values: Reread[str, int]) -> None:
    """It is tried once in a while; what is not known is the source's error, each time anew."""
    assert await values.get("a") == 1
    source.error = away()
    source.now_s = FRESH_S
    assert [await values.get("a"), await values.get("a")] == [1, 1]
    assert source.reads == ["a", "a"]
    for _ in range(2):
        with pytest.raises(EdgeError):
            await values.get("b")
    source.error, source.values["a"], source.now_s = None, 5, 2 * FRESH_S
    assert await values.get("a") == 5


async def test_nobody_waits_long_for_a_newer_one(
    source: Source, values: Reread[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And only one caller at all; what is read then is in force as soon as it is there."""
    monkeypatch.setattr("sovren_edge.gateway.reread.PATIENCE_S", 0.01)
    await values.get("a")
    source.open.clear()
    source.values["a"], source.now_s = 5, FRESH_S
    assert await values.get("a") == 1
    monkeypatch.setattr("sovren_edge.gateway.reread.PATIENCE_S", 60)
    assert await values.get("a") == 1
    source.open.set()
    await settled()
    assert await values.get("a") == 5


async def test_the_least_used_are_forgotten(source: Source, values: Reread[str, int]) -> None:
    """There is room for two."""
    for key in ("a", "b", "a", "c", "a", "b"):
        await values.get(key)
    assert source.reads == ["a", "b", "c", "b"]


async def test_a_value_that_was_made_is_kept(source: Source, values: Reread[str, int]) -> None:
    """As if it had been read."""
    values.put("a", 7)
    assert await values.get("a") == 7
    assert source.reads == []


async def test_an_unforeseen_error_is_told_to_who_asked(source: Source, values: Reread[str, int]) -> None:
    """It is a mistake, and not swallowed."""
    source.error = ValueError("mistake")
    with pytest.raises(ValueError, match="mistake"):
        await values.get("a")


async def test_a_job_that_was_ended_ends_its_callers(source: Source) -> None:
    """With the program, say."""
    jobs: Coalescing[str, int] = Coalescing(asyncio.create_task)
    source.open.clear()
    before = asyncio.all_tasks()
    joining = asyncio.create_task(jobs.join("a", lambda: source.read("a")))
    await settled()
    (job,) = asyncio.all_tasks() - before - {joining}
    job.cancel()
    await asyncio.wait({job, joining})
    assert joining.cancelled()
    source.open.set()
    assert await jobs.join("a", lambda: source.read("a")) == 1


async def test_what_another_process_knew_serves_while_nothing_can_be_read(
    values: Reread[str, int], source: Source
) -> None:
    """It is read again when it is asked for, and never takes the place of what was read here."""
    values.put("a", 1)
    values.give("a", 10)
    values.give("b", 20)
    assert values.items() == [("a", 1), ("b", 20)]
    source.error = away()
    assert [await values.get(key) for key in "ab"] == [1, 20]
    assert source.reads == ["b"]
    source.error = None
    source.now_s += FRESH_S
    assert await values.get("b") == 2
