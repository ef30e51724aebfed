"""How soon callers hear something is counted for each pool, whoever spoke, and however often it was tried."""

import asyncio

import pytest
from harness import backend, eventually, front, make_pool
from voices import LONG, request, response, slowly, speaking, text_of

from sovren_edge.relay.metrics import PoolsCollector, describe_pool


@pytest.mark.parametrize("text", ["Good morning.", LONG], ids=["as a whole", "in parts"])
async def test_each_answer_is_counted_once_from_its_request_to_its_sound(text: str) -> None:
    """Also what has to be spoken twice: a text in parts counts as its caller hears it."""
    gate = asyncio.Event()
    turn = iter(range(100))

    def fail_first(head: bytes, body: bytes) -> bytes:
        return response(b"{}", status="500 Internal Server Error") if not next(turn) else speaking(head, body)

    async with backend(slowly(gate, fail_first if text == LONG else speaking)) as one:
        pool = make_pool("tts", [one.port], kind="speech", repeatable=True, interchangeable=True)
        async with front(pool) as made:
            call = asyncio.create_task(made.call(request(text)))
            await eventually(lambda: one.requests)
            heard_at = asyncio.get_running_loop().time()
            await eventually(lambda: asyncio.get_running_loop().time() - heard_at > 0.1)
            gate.set()
            await call
            ttfa = made.relay.stats_of(pool).ttfa
            assert ttfa.count == 1
            assert ttfa.total >= 0.1
            described = describe_pool(pool, made.relay.stats_of(pool))["speech"]
            assert isinstance(described, dict)
            assert (described["ttfa_s"]["count"], described["ttfa_s"]["sum_s"]) == (1, ttfa.total)
            parts = len(set(map(text_of, (body for _, body in one.requests))))
            assert described["scattered"]["parts_a_text"] == (parts if text == LONG else None)
            series = {family.name for family in PoolsCollector((pool,), made.relay.stats_of).collect()}
            assert "pool_ttfa_seconds" in series


async def test_who_shares_an_answer_is_counted_too() -> None:
    """By the time that it waited itself; what was kept says nothing about the pool, nor does an error."""
    gate = asyncio.Event()
    async with backend(slowly(gate)) as one:
        pool = make_pool("tts", [one.port], kind="speech", keep_bytes=1 << 20)
        async with front(pool) as made:
            stats = made.relay.stats_of(pool)
            calls = [asyncio.create_task(made.call(request("Good morning."))) for _ in range(3)]
            await eventually(lambda: stats.coalesced == 2)
            gate.set()
            await asyncio.gather(*calls)
            assert stats.ttfa.count == 3
            await made.call(request("Good morning."))
            assert (stats.kept_served, stats.ttfa.count) == (1, 3)


async def test_errors_are_not_counted() -> None:
    """Neither the endpoint's nor our own: they would make speech look fast."""
    answers = iter([response(b"{}", status="500 Internal Server Error"), b"nonsense\r\n\r\n"])
    async with backend(lambda *_: next(answers)) as one:
        pool = make_pool("tts", [one.port], kind="speech")
        async with front(pool) as made:
            for _ in range(2):
                await made.call(request("Good morning."))
            assert not made.relay.stats_of(pool).ttfa.count
