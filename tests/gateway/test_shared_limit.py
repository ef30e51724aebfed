"""No window ever holds more than the limit, whatever becomes of Redis, PostgreSQL, gateways and the clock.

Here Redis's time is the test's own: its scripts read it from a key.
"""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from limits import RateLimitItemPerHour
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from redis.asyncio import Redis

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.ledger.adoption import Adoption
from sovren_edge.gateway.ledger.journal import Journal, open_journal
from sovren_edge.gateway.ledger.ledger import apply
from sovren_edge.gateway.ledger.owners import Owners
from sovren_edge.gateway.ledger.rows import RequestRow, encode
from sovren_edge.gateway.limit import notes, redis_link, redis_scripts, redis_seeding, shared_grants
from sovren_edge.gateway.limit.limiter import Granted
from sovren_edge.gateway.limit.redis_link import open_redis
from sovren_edge.gateway.limit.redis_scripts import Script
from sovren_edge.gateway.limit.redis_seeding import LAG_US, RedisSeeding
from sovren_edge.gateway.limit.seeding import grant_id
from sovren_edge.gateway.limit.shared_grants import SharedGrants
from sovren_edge.store.connection import Connection
from sovren_edge.store.database import Database, open_database
from sovren_edge.store.settings import DatabaseSettings
from tests.gateway.reserving import reserved
from tests.gateway.valkey import Valkey

AWAY = "postgresql://postgres@/postgres?host=%2Fnonexistent"
SETTINGS = DatabaseSettings(timeout_s=2.0)
# Its lines would bury what a failing example says.
LOG: Any = SimpleNamespace(info=lambda *_, **__: None, warning=lambda *_, **__: None, error=lambda *_, **__: None)
HOUR_US = 3_600_000_000
LIMIT = 3
TIME = "test:time"
MADE = datetime.now(UTC)
# Later than now, so that keys do not end meanwhile.
START_US = 4_000_000_000_000_000 // 2


def timed(script: Script) -> Script:
    """Return a script whose time is the test's."""
    return Script(script.lua.replace("redis.call('TIME')", f"redis.call('LRANGE', '{TIME}', 0, 1)"))


@pytest.fixture(autouse=True)
def own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all scripts read the test's time, and keep no notes, which go by seconds."""
    monkeypatch.setattr(redis_link, "ALL", [timed(script) for script in redis_scripts.ALL])
    for module, names in ((shared_grants, "GRANT END"), (redis_seeding, "BEGIN SEED FINISH RELEASE")):
        for name in names.split():
            monkeypatch.setattr(module, name, timed(getattr(redis_scripts, name)))
    monkeypatch.setattr(notes, "KEPT_US", 0)


@dataclass
class World:
    """What all gateways share."""

    redis: Redis
    database: Database
    away: Database
    folder: Path
    now_us: int = START_US
    sent_us: list[int] = field(default_factory=list)

    async def step(self, step_us: int) -> None:
        """Let Redis's clock step."""
        self.now_us += step_us
        async with self.redis.pipeline() as pipe:
            seconds, us = divmod(self.now_us, 1_000_000)
            await pipe.delete(TIME).rpush(TIME, seconds, us).execute()

    async def lose_redis(self) -> None:
        """Let Redis forget all, as if it had restarted."""
        await self.redis.flushall()
        await self.step(0)

    def check(self) -> None:
        """No window held more than the limit."""
        times = sorted(self.sent_us)
        assert all(later - first >= HOUR_US for first, later in zip(times, times[LIMIT:], strict=False)), times


@dataclass
class Gateway:
    """One process: its requests stand between being granted, written and sent for as long as the test likes."""

    world: World
    owners: Owners
    grants: SharedGrants
    seeding: RedisSeeding
    seeding_away: RedisSeeding
    adoption: Adoption
    journal: Journal
    session: Connection
    postgres: bool = True
    granted: list[tuple[UUID, Granted]] = field(default_factory=list)
    written: list[tuple[UUID, Granted]] = field(default_factory=list)

    async def ask(self) -> None:
        """Ask for a grant."""
        request_id = uuid4()
        decision = await self.grants.grant("ann", grant_id(request_id, 0))
        if isinstance(decision, Granted):
            self.granted.append((request_id, decision))

    async def write(self) -> None:
        """Make the oldest granted request's row durable."""
        if self.granted:
            request_id, granted = self.granted.pop(0)
            await self.record(self.row(request_id, granted.at_us))
            self.written.append((request_id, granted))

    async def send(self) -> None:
        """Confirm the oldest written request, and send it if it may be."""
        if self.written:
            request_id, granted = self.written.pop(0)
            name = grant_id(request_id, 0)
            confirmed = await self.grants.confirm("ann", name, granted)
            if isinstance(confirmed, Granted):
                self.world.sent_us.append(confirmed.at_us)
                await self.grants.settle("ann", name)
            else:
                await self.give_back(request_id, name)

    async def refund(self) -> None:
        """Give back the oldest written request's grant."""
        if self.written:
            request_id, _ = self.written.pop(0)
            await self.give_back(request_id, grant_id(request_id, 0))

    async def give_back(self, request_id: UUID, name: str) -> None:
        """Refund and record that."""
        await self.grants.refund("ann", name)
        await self.record(replace(self.row(request_id, None), decision="settled", settled_at=datetime.now(UTC)))

    def row(self, request_id: UUID, at_us: int | None) -> RequestRow:
        """Return the row of a request, whose key stays the same."""
        made = MADE + timedelta(milliseconds=request_id.int % 1000)
        return reserved(self.owners.name, subscriber="ann", clock="redis", granted_us=(at_us,),
                        request_id=request_id, created_at=made)  # fmt: skip

    async def record(self, row: RequestRow) -> None:
        """Write a row as the ledger does."""
        if self.postgres and not self.journal.used_bytes:
            await apply(self.world.database, [encode(row)])
        else:
            self.journal.append([encode(row)])

    async def serve(self) -> None:
        """Do all at once, as it is nearly always."""
        await self.ask()
        await self.write()
        await self.send()

    async def replay(self) -> None:
        """Bring the journal to PostgreSQL."""
        if self.postgres:
            if records := list(self.journal.records()):
                await apply(self.world.database, records)
            self.journal.reset()
            await self.adoption.adopt()

    async def beat(self) -> None:
        """Say whether all is clean."""
        if self.postgres:
            await self.owners.beat(self.session)

    async def seed(self) -> None:
        """Seed Redis if it is cold and can be seeded."""
        try:
            await (self.seeding if self.postgres else self.seeding_away).seed()
        except EdgeError:
            assert not self.postgres

    async def cut(self) -> None:
        """Lose PostgreSQL, or have it again."""
        self.postgres = not self.postgres


@asynccontextmanager
async def running(world: World, url: str, name: str) -> AsyncIterator[Gateway]:
    """Run a gateway until it is killed."""
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(open_journal(world.folder / f"{name}.journal", owner=name, size=1 << 16))
        adoption = Adoption(world.folder, world.database, LOG)
        owners = Owners(world.database, name, lambda: not journal.used_bytes, LOG)
        session = await stack.enter_async_context(world.database.session())
        await owners.beat(session)
        link = await stack.enter_async_context(open_redis(url, LOG))
        grants = SharedGrants(link, lambda: LIMIT, {}, absent=lambda: owners.absent, cold=lambda: None)
        seeding = RedisSeeding(link, world.database, owners, LOG)
        away = RedisSeeding(link, world.away, Owners(world.away, name, lambda: False, LOG), LOG)
        yield Gateway(world, owners, grants, seeding, away, adoption, journal, session)


class Town:
    """Two gateways on one Redis."""

    def __init__(self, world: World, url: str) -> None:
        self._world = world
        self._url = url
        self._stacks = [AsyncExitStack(), AsyncExitStack()]
        self._gateways: list[Gateway] = []

    async def open(self) -> None:
        """Start both."""
        for stack in self._stacks:
            self._gateways.append(await self._start(stack))

    async def _start(self, stack: AsyncExitStack) -> Gateway:
        return await stack.enter_async_context(running(self._world, self._url, f"g:{uuid4()}"))

    async def close(self) -> None:
        """Kill both."""
        for stack in self._stacks:
            await stack.aclose()

    async def do(self, what: str, who: int, step_us: int) -> None:
        """Do one step of a story."""
        if what == "lose_redis":
            await self._world.lose_redis()
        elif what == "step":
            await self._world.step(step_us)
        elif what == "recover":
            await self._recover(who)
        elif what == "kill":
            await self._stacks[who].aclose()
            self._gateways[who] = await self._start(self._stacks[who])
        else:
            await getattr(self._gateways[who], what)()

    async def _recover(self, who: int) -> None:
        """Let time pass in which all beat twice, and one seeds: first it hears the time, then it notices the cold."""
        for _ in range(2):
            await self._gateways[who].seed()
        for gateway in 2 * self._gateways:
            await gateway.beat()
        await self._gateways[who].seed()


OFTEN = [*["serve"] * 6, *["recover"] * 3]
STORY = st.lists(
    st.tuples(
        st.sampled_from(
            [*OFTEN, "ask", "write", "send", "refund", "cut", "replay", "kill", "lose_redis", "step", "beat"]
        ),
        st.sampled_from([0, 1]),
        st.sampled_from([1, 1000, 20_000_000, HOUR_US // 3, HOUR_US - 1, HOUR_US, HOUR_US + 60_000_000, -1, -HOUR_US]),
    ),
    max_size=60,
)
WARM = [("recover", 0, 1)]


def story(text: str) -> list[tuple[str, int, int]]:
    """Read steps of the form `what who`, or `step microseconds`."""
    steps = [step.split() for step in text.split(", ")]
    return [(what, 0, int(to)) if what == "step" else (what, int(to), 0) for what, to in steps]


@pytest.fixture
async def world(valkey: Valkey, gateway_url: str) -> AsyncIterator[World]:
    """Open what all share."""
    async with (
        valkey.client() as redis,
        open_database(gateway_url, SETTINGS) as database,
        open_database(AWAY, SETTINGS) as away,
    ):
        yield World(redis, database, away, Path())


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(steps=STORY)
@example(steps=story("cut 0, serve 0, serve 0, serve 0, lose_redis 0, recover 1, serve 1"))
@example(steps=story("serve 0, serve 0, ask 0, lose_redis 0, recover 1, serve 1, write 0, send 0"))
@example(steps=story("cut 0, serve 0, serve 0, kill 0, lose_redis 0, recover 1, serve 1, serve 1, replay 1, recover 1"))
@example(steps=story("serve 0, ask 0, write 0, lose_redis 0, recover 1, serve 1, serve 1, serve 1, send 0, serve 1"))
@example(steps=story(f"serve 0, serve 0, serve 0, step {HOUR_US + LAG_US}, serve 0, step {-HOUR_US}, serve 0"))
@example(
    steps=story(
        f"serve 0, serve 0, step {HOUR_US - LAG_US // 2}, ask 0, lose_redis 0, recover 1, serve 1, step {LAG_US // 2}, "
        "write 0, send 0"
    )
)
async def test_no_window_holds_more_than_the_limit(
    world: World, valkey: Valkey, steps: list[tuple[str, int, int]]
) -> None:
    """Whatever happens in between."""
    await world.database.execute("TRUNCATE api_requests, owners")
    with TemporaryDirectory() as folder:
        world = replace(world, folder=Path(folder), sent_us=[])
        await world.lose_redis()
        town = Town(world, valkey.url)
        await town.open()
        try:
            for what, who, step_us in [*WARM, *steps]:
                await town.do(what, who, step_us)
        finally:
            await town.close()
        world.check()


async def test_it_is_not_for_want_of_grants(world: World, valkey: Valkey) -> None:
    """The stories of above are of gateways that do grant, also after Redis was lost."""
    await world.lose_redis()
    with TemporaryDirectory() as folder:
        world = replace(world, folder=Path(folder), sent_us=[])
        town = Town(world, valkey.url)
        await town.open()
        for what, who, step_us in [*WARM, *story("serve 0, serve 1, lose_redis 0, recover 1, serve 0, serve 1")]:
            await town.do(what, who, step_us)
        await town.close()
        assert len(world.sent_us) == LIMIT


# --- a second opinion


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Return the library's clock."""
    clock = SimpleNamespace(now_s=0)
    timer = SimpleNamespace(start=lambda: None, is_alive=lambda: True)
    monkeypatch.setattr("limits.storage.memory.time", SimpleNamespace(time=lambda: float(clock.now_s)))
    monkeypatch.setattr(
        "limits.storage.memory.threading", SimpleNamespace(Timer=lambda *_: timer, RLock=threading.RLock)
    )
    return clock


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(
    limit=st.sampled_from([1, 2, 5, 100]),
    steps=st.lists(st.sampled_from([0, 0, 1, 3, 100, 514, 515]), min_size=20, max_size=200),
)
async def test_limits_agrees(
    world: World, valkey: Valkey, theirs: SimpleNamespace, limit: int, steps: list[int]
) -> None:
    """The library `limits` grants and refuses the same requests (see the test of the limiter of one process)."""
    await world.lose_redis()
    await world.redis.delete(TIME)
    world = replace(world, now_us=START_US)
    await world.step(0)
    storage, item = MovingWindowRateLimiter(MemoryStorage()), RateLimitItemPerHour(limit)
    async with open_redis(valkey.url, LOG) as link:
        await world.redis.hset(redis_scripts.STATE, mapping={"run": link.run_id, "seen": 0})
        ours = SharedGrants(link, lambda: limit, {}, absent=lambda: False, cold=lambda: None)
        for number, step in enumerate(steps):
            await world.step(7 * step * 1_000_000)
            theirs.now_s = world.now_us // 1_000_000
            granted = isinstance(await ours.grant("ann", str(number)), Granted)
            await ours.settle("ann", str(number))
            assert granted is storage.hit(item, "ann")
            assert (await ours.look("ann")).remaining == storage.get_window_stats(item, "ann").remaining
