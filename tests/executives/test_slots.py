"""Slots for answers: so many in all, a part of them for one subscriber."""

from contextlib import AsyncExitStack

import pytest

from handlers.executives.slots import Slots
from sovren_edge.handler import EdgeError


async def refused(slots: Slots, subscriber: str) -> tuple[int, str]:
    """Return why somebody gets no slot."""
    with pytest.raises(EdgeError) as caught:
        await slots.taken(subscriber).__aenter__()
    assert caught.value.problem.retry_after_s
    return caught.value.problem.status, caught.value.problem.reason


async def test_one_subscriber_leaves_slots_to_the_others() -> None:
    """It is told at once, and has a slot again with each answer that is whole."""
    slots = Slots(8, timeout_s=0.01)
    async with AsyncExitStack() as held:
        for _ in range(6):
            await held.enter_async_context(slots.taken("ann"))
        async with slots.taken("ann"):
            assert await refused(slots, "ann") == (429, "too_many_answers")
            async with slots.taken("bob"):
                pass
        async with slots.taken("ann"):
            pass


async def test_all_slots_may_be_taken() -> None:
    """Then others wait, not for ever; who gave up has no part of its share any more."""
    slots = Slots(4, timeout_s=0.01)
    async with AsyncExitStack() as held:
        for subscriber in ("ann", "bob", "eve", "dan"):
            await held.enter_async_context(slots.taken(subscriber))
        assert await refused(slots, "ida") == (503, "answers_busy")
        assert await refused(slots, "ida") == (503, "answers_busy")
    async with slots.taken("ida"):
        pass


async def test_whoever_fails_gives_its_slot_back() -> None:
    """Where there is one slot, it is one subscriber's at a time."""
    slots = Slots(1, timeout_s=0.01)
    with pytest.raises(LookupError):
        async with slots.taken("ann"):
            raise LookupError
    async with slots.taken("ann"):
        assert await refused(slots, "bob") == (503, "answers_busy")
