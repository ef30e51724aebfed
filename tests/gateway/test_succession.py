"""One gateway in the place of another: over real channels, before real servers, in one process or in two."""

import asyncio
import gc
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import structlog
import trustme
from harness import eventually

from sovren_edge.gateway.clocks import boot_us
from sovren_edge.gateway.handing import Page
from sovren_edge.gateway.ledger.adoption import Adoption
from sovren_edge.gateway.ledger.journal import open_journal
from sovren_edge.gateway.ledger.rows import encode
from sovren_edge.gateway.limit.grants import LocalGrants
from sovren_edge.gateway.limit.limiter import Limiter
from sovren_edge.gateway.limit.present_grants import PresentGrants
from sovren_edge.gateway.migrations import HISTORY
from sovren_edge.gateway.succession import Estate, Succession
from sovren_edge.gateway.tasks import Tasks, open_tasks
from sovren_edge.local.postgres import run_postgres
from sovren_edge.process.channel import Channel, channel_pair
from sovren_edge.store.database import Database
from sovren_edge.store.migrations import migrate
from tests.gateway.databases import SETTINGS
from tests.gateway.gateway_process import GatewayProcess, Life
from tests.gateway.gateway_stage import Front, hand_over, open_front, open_next, settings_json
from tests.gateway.reserving import reserved
from tests.gateway.tls_upstream import HOST, OTHER, Call, answer_ok
from tests.gateway.valkey import Valkey

PORT = 5432
HOUR_US = 3_600_000_000
SUBSCRIBERS, EACH = 100_000, 100
# Between two turns, with both ends on one loop.
LONGEST_S = 0.2
FULL = (429, "hourly_limit")


@pytest.fixture
async def old(authority: trustme.CA, gateway_url: str, tmp_path: Path) -> AsyncIterator[Front]:
    """Run a gateway."""
    async with open_front(authority, gateway_url, tmp_path) as front:
        yield front


def limiter_of(front: Front) -> dict[str, object]:
    """Return how a gateway's limiter is doing."""
    told = front.gateway.look()["limiter"]
    assert isinstance(told, dict)
    return told


async def ask(front: Front, path: str = "") -> tuple[int, object]:
    """Call once; return the status, and why if it is a refusal."""
    told = await front.call(f"https://{HOST}/{path}")
    return told.status, "" if told.status == 200 else told.reason


async def ask_on(front: Front, until: int, answers: "Counter[tuple[int, object]]") -> None:
    """Call one after the other until so many have been refused."""
    while answers[FULL] < until:
        answers[await ask(front)] += 1


async def test_a_hundred_are_granted_over_both(old: Front) -> None:
    """With both asked at once, before, during and after the handover: none is lost, none doubled, nothing fails."""
    answers: Counter[tuple[int, object]] = Counter()
    async with open_next(old) as new, asyncio.TaskGroup() as asking:
        for _ in range(4):
            asking.create_task(ask_on(old, 20, answers))
        await eventually(lambda: answers[200, ""] >= 20)
        # Callers of the newer one wait until it has the log.
        for _ in range(4):
            asking.create_task(ask_on(new, 20, answers))
        await hand_over(old, new)
        assert answers[200, ""] < 100
    assert answers == {(200, ""): 100, FULL: answers[FULL]}
    assert len(old.upstream.calls) == 100
    charged = await old.rows("grant_charged")
    assert len(charged) == 100
    assert len({row["owner"] for row in charged}) == 2


async def test_requests_in_flight_end_at_the_newer_one(old: Front) -> None:
    """One that was sent stays charged, one that was not gives its grant back, and ten at once are ten over both."""
    gate = asyncio.Event()

    async def script(call: Call) -> None:
        await gate.wait()
        await answer_ok(call)

    old.upstream.script = script
    old.names.dead.add(OTHER)
    sent = asyncio.ensure_future(old.call())
    unsent = asyncio.ensure_future(old.call(f"https://{OTHER}/"))
    await eventually(lambda: len(old.upstream.calls) == 1 and f"{OTHER}. A" in old.names.asked)
    async with open_next(old) as new:
        await hand_over(old, new)
        assert limiter_of(new) | {"seeded": True, "inflight": 2, "entries": 2} == limiter_of(new)
        more = [asyncio.ensure_future(front.call()) for front in (old, new) * 4]
        await eventually(lambda: limiter_of(new)["inflight"] == 10)
        for front in (old, new):
            assert await ask(front) == (429, "too_many_in_flight")
        gate.set()
        assert {told.status for told in await asyncio.gather(sent, *more)} == {200}
        assert (await unsent).status == 504
        await eventually(lambda: limiter_of(new)["inflight"] == 0)
        assert limiter_of(new)["entries"] == 9
        assert (await new.call()).headers["X-Gateway-RateLimit-Remaining"] == "90"
    assert len(await old.rows("grant_charged")) == 10


async def test_what_an_older_one_that_dies_has_sent_stays_charged(old: Front) -> None:
    """And takes none of the ten places for ever."""
    old.upstream.script = lambda _call: asyncio.Event().wait()  # type: ignore[assignment, return-value]
    async with open_next(old) as new:
        ours, theirs = channel_pair()
        calling = asyncio.ensure_future(old.call())
        await eventually(lambda: old.upstream.calls)
        line = Channel(theirs, {})
        await asyncio.gather(new.gateway.succeed(partial(Channel, ours)), old.gateway.retire(lambda _: line))
        assert limiter_of(new)["inflight"] == 1
        line.close()
        await eventually(lambda: limiter_of(new)["inflight"] == 0)
        assert limiter_of(new)["entries"] == 1
        calling.cancel()


async def test_the_newest_of_three_grants_for_all(old: Front) -> None:
    """What the oldest asks of the one in the middle goes on to the newest."""
    async with open_next(old) as middle, open_next(old) as newest:
        assert await ask(old) == (200, "")
        await hand_over(old, middle)
        await hand_over(middle, newest)
        for front in (old, middle, newest):
            assert await ask(front) == (200, "")
        await eventually(lambda: limiter_of(newest)["inflight"] == 0)
        assert limiter_of(newest)["entries"] == 4


async def test_one_that_dies_takes_the_log_along(old: Front, gateway_url: str, tmp_path: Path) -> None:
    """Nothing is granted then, until the next one has learnt from PostgreSQL what both have granted."""
    assert await ask(old) == (200, "")
    ours, theirs = channel_pair()
    written = settings_json(old.upstream, old.names, tmp_path / "authority.pem", hourly_limit=100)
    with GatewayProcess(Life(written, gateway_url, tmp_path, succeeds=ours)) as process:
        await old.gateway.retire(partial(Channel, theirs))
        ours.close()
        port = await process.port()
        newer = replace(old, base=f"http://127.0.0.1:{port}")
        for front in (old, newer):
            assert await ask(front) == (200, "")
        process.kill()
        async with asyncio.timeout(30):
            while await ask(old) != (503, "limiter_unavailable"):  # noqa: ASYNC110 - another process's end
                await asyncio.sleep(0.01)
    assert len(old.upstream.calls) == 3
    async with open_next(old) as new:
        await hand_over(old, new)
        await eventually(new.ready)
        for front in (old, new):
            assert await ask(front) == (200, "")
        assert limiter_of(new)["entries"] == 5


async def test_a_line_that_ends_too_early_brings_nothing(old: Front) -> None:
    """What had come is forgotten, and learnt from PostgreSQL; the older one refuses meanwhile."""
    assert await ask(old) == (200, "")
    async with open_next(old) as new:
        ours, theirs = channel_pair()
        line = Channel(theirs, {})

        class Cut:
            """A line that ends before the last call."""

            closed = line.closed
            tell = line.tell
            close = line.close

            async def call(self, method: str, blob: bytes = b"", **given: object) -> object:
                if method.endswith(":complete"):
                    line.close()
                return await line.call(method, blob, **given)

        await asyncio.gather(new.gateway.succeed(partial(Channel, ours)), old.gateway.retire(lambda _: Cut()))  # type: ignore[arg-type, return-value]
        assert await ask(old) == (503, "limiter_unavailable")
        await eventually(new.ready)
        assert limiter_of(new)["entries"] == 1
        assert await ask(new) == (200, "")


async def test_gateways_that_share_a_limit_live_side_by_side(
    authority: trustme.CA, gateway_url: str, tmp_path: Path, valkey: Valkey
) -> None:
    """Nothing is handed over but what serves while PostgreSQL is away."""
    async with (
        open_front(authority, gateway_url, tmp_path, redis_url=valkey.url, redis="env:REDIS", hourly_limit=4) as old,
        open_next(old) as new,
    ):
        assert await ask(old) == (200, "")
        await hand_over(old, new)
        await eventually(new.ready)
        assert [await ask(front) for front in (old, new, old, new)] == [(200, "")] * 3 + [FULL]
        assert limiter_of(new) == {"seeded": True, "subscribers": None, "entries": None, "inflight": 0, "refused": 1}


async def test_another_kind_of_limiter_learns_by_itself(
    authority: trustme.CA, gateway_url: str, tmp_path: Path, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From memory to Redis: the older one grants nothing more, the newer one has what PostgreSQL has."""
    monkeypatch.setattr("sovren_edge.gateway.limit.present_grants.PATIENCE_S", 0.2)
    async with open_front(authority, gateway_url, tmp_path, redis_url=valkey.url, redis="env:REDIS") as seen:
        local = seen.settings.model_copy(update={"redis": None})
        async with open_next(seen, local) as old, open_next(seen) as new:
            old.gateway.begin()
            await eventually(old.ready)
            assert await ask(old) == (200, "")
            await hand_over(old, new)
            await eventually(new.ready)
            calling = asyncio.ensure_future(ask(old))
            assert await ask(new) == (200, "")
            assert await calling == (503, "limiter_unavailable")


@asynccontextmanager
async def without_postgres(
    authority: trustme.CA, tmp_path: Path, **others: object
) -> AsyncIterator[tuple[Front, Path]]:
    """Open a gateway that has served before its PostgreSQL stopped; yield it, and where that is."""
    home = tmp_path / "postgres"
    home.mkdir()
    async with run_postgres(home, PORT) as postgres:
        await migrate(postgres.url, SETTINGS.schema_name, [HISTORY])
        opening = open_front(authority, postgres.url, tmp_path, **others)
        front = await opening.__aenter__()
        assert await ask(front, "first") == (200, "")
        await front.rows()
    try:
        yield front, home
    finally:
        await opening.__aexit__(None, None, None)


async def test_postgresql_may_be_away_meanwhile(authority: trustme.CA, tmp_path: Path) -> None:
    """The newer one knows what the older one did, and no request fails; PostgreSQL has every row in the end."""
    budgets = {"founder": {"period": "day", "hard_microusd": 1_000_000}}
    prices = {"prices": [{"amount_microusd": 10}], "price_version": "1"}
    async with without_postgres(authority, tmp_path, hourly_limit=20, budgets=budgets, **prices) as (old, home):
        assert await ask(old, "old") == (200, "")
        async with open_next(old) as new:
            await hand_over(old, new)
            answers = [await ask(front, f"{number}") for number in range(9) for front in (old, new)]
            assert answers == [(200, "")] * 18
            assert await ask(new) == await ask(old) == FULL
            async with run_postgres(home, PORT):
                await eventually(lambda: not (journaling(old) or journaling(new)))
                rows = await old.rows("grant_charged")
                assert len(rows) == 20
                spent = await old.database.fetchval("SELECT sum(amount_microusd) FROM api_costs")
                assert spent == 200


def journaling(front: Front) -> bool:
    """Whether PostgreSQL lacks rows that are in a journal."""
    told = front.gateway.look()["ledger"]
    assert isinstance(told, dict)
    return bool(told["journaling"])


async def test_a_journal_that_another_process_has_open_is_waited_for(database: Database, tmp_path: Path) -> None:
    """What it holds is that one's to bring to PostgreSQL, and until then the last hour is not known."""
    own = tmp_path / "own.journal"
    adoption = Adoption(tmp_path, database, structlog.get_logger())
    row = reserved("other")
    with (
        open_journal(own, owner="own", size=1 << 16) as ours,
        open_journal(tmp_path / "other.journal", owner="other", size=1 << 16) as other,
    ):
        ours.append([encode(reserved("own"))])
        assert await adoption.adopt_all(own)
        other.append([encode(row)])
        assert await adoption.adopt()
        assert not await adoption.adopt_all(own)
    assert await adoption.adopt_all(own)
    found = await database.fetch("SELECT request_id FROM api_requests WHERE owner = 'other'")
    assert [one["request_id"] for one in found] == [row.request_id]


@pytest.fixture
def unburdened() -> Iterator[None]:
    """Let no collection look through what other tests have loaded."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("unburdened")
async def test_a_hundred_thousand_subscribers_hold_up_nobody() -> None:
    """With a hundred grants each: whoever asks meanwhile waits, and others have their turn all the time."""
    logs = Limiter(lambda: EACH, HOUR_US), Limiter(lambda: EACH, HOUR_US)
    times = array("q", range(boot_us() - EACH, boot_us())).tobytes()
    for first in range(0, SUBSCRIBERS, 1000):
        names = [f"subscriber-{number}" for number in range(first, first + 1000)]
        logs[0].take(Page({"subscribers": names, "counts": [EACH] * 1000}, times * 1000))
    logs[0].finish_seeding()
    ours, theirs = channel_pair()
    turns: list[float] = []
    async with open_tasks(structlog.get_logger()) as tasks:
        (older, asked), (newer, _) = (heir(limiter, tasks) for limiter in logs)
        older.begin()
        tasks.keep(partial(take_turns, turns))
        _, _, quota = await asyncio.gather(
            older.retire(partial(Channel, ours)), newer.succeed(partial(Channel, theirs)), asked.look("subscriber-7")
        )
        older.close()
        newer.close()
    assert quota.used == EACH
    assert (len(logs[1]), logs[1].entries) == (SUBSCRIBERS, SUBSCRIBERS * EACH)
    assert max(later - earlier for earlier, later in pairwise(turns)) < LONGEST_S


def heir(limiter: Limiter, tasks: Tasks) -> tuple[Succession, PresentGrants]:
    """Return a limiter's place among those that succeed each other, and grants as requests have them."""
    own, log = LocalGrants(limiter, boot_us, "boot"), structlog.get_logger()
    present = PresentGrants(own)
    estate = Estate(name="gateway", own=own, log=limiter, parts={}, seed=lambda: None)
    return Succession(estate, present, tasks, log), present


async def take_turns(turns: list[float]) -> None:
    """Note the CPU time of this thread whenever the loop comes by: what others need is not its own."""
    while True:
        turns.append(time.thread_time())
        await asyncio.sleep(0)
