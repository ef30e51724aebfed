"""Grants in a real Valkey: rules by example, a second opinion, what is done when it fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
import structlog
from harness import eventually

from sovren_edge.errors import EdgeError, StartupError
from sovren_edge.gateway.ledger import owners as owners_module
from sovren_edge.gateway.ledger.journal import open_journal
from sovren_edge.gateway.ledger.ledger import Ledger, apply, open_ledger
from sovren_edge.gateway.ledger.owners import Owners, open_owners
from sovren_edge.gateway.ledger.rows import encode
from sovren_edge.gateway.limit import notes, redis_link, redis_seeding, shared_grants
from sovren_edge.gateway.limit.limiter import Crowded, Exceeded, Granted, NotSeeded, Quota
from sovren_edge.gateway.limit.redis_clock import RedisClock
from sovren_edge.gateway.limit.redis_scripts import STATE, inflight_of, log_of
from sovren_edge.gateway.limit.seeding import grant_id
from sovren_edge.gateway.limit.shared_grants import SharedGrants, open_shared_grants
from sovren_edge.store.database import Database, open_database
from sovren_edge.store.settings import DatabaseSettings
from tests.gateway.reserving import reserved, until
from tests.gateway.valkey import Valkey, Way

LOG = structlog.get_logger()
SETTINGS = DatabaseSettings(timeout_s=2.0)
HOUR_US = 3_600_000_000
USUAL_CALL_S = redis_link.CALL_S


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let hearts beat fast, and try again soon."""
    for module, name, seconds in (
        (owners_module, "BEAT_S", 0.01),
        (redis_seeding, "RETRY_S", 0.01),
        (shared_grants, "PAY_S", 0.05),
    ):
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture
async def database(gateway_url: str) -> AsyncIterator[Database]:
    """Open the database."""
    async with open_database(gateway_url, SETTINGS) as database:
        yield database


@pytest.fixture
async def owners(database: Database) -> AsyncIterator[Owners]:
    """Be an owner that is always clean."""
    async with open_owners(database, "a:1", lambda: True, LOG) as owners:
        await eventually(lambda: not owners.absent)
        yield owners


@asynccontextmanager
async def opened(
    url: str, database: Database, owners: Owners, limit: int = 3, limits: dict[str, int] | None = None
) -> AsyncIterator[SharedGrants]:
    """Open grants, whether they are seeded or not."""
    async with open_shared_grants(
        url, lambda: limit, limits or {}, database=database, owners=owners, log=LOG
    ) as grants:
        yield grants


async def seeded(grants: SharedGrants) -> None:
    """Wait until they are."""

    async def answered() -> bool:
        try:
            await grants.look("nobody")
        except EdgeError:
            return False
        return True

    await until(answered)


@pytest.fixture
async def grants(valkey: Valkey, database: Database, owners: Owners) -> AsyncIterator[SharedGrants]:
    """Open grants with a limit of three that are seeded."""
    async with opened(valkey.url, database, owners) as grants:
        await seeded(grants)
        yield grants


# --- the window


async def test_the_limit_is_kept_and_told(grants: SharedGrants) -> None:
    """The next after the last is refused, and told when the first of them leaves."""
    first = await grants.grant("ann", "1")
    assert isinstance(first, Granted)
    assert first.quota == Quota(3, 1, first.at_us + HOUR_US, first.at_us + HOUR_US)
    await grants.grant("ann", "2")
    last = await grants.grant("ann", "3")
    assert isinstance(last, Granted)
    full = Quota(3, 3, first.at_us + HOUR_US, last.at_us + HOUR_US)
    assert last.quota == full
    assert await grants.grant("ann", "4") == Exceeded(full)
    assert await grants.look("ann") == full
    assert abs(grants.now_us() - last.at_us) < 1_000_000
    assert grants.clock_steps == 0
    assert isinstance(await grants.grant("bob", "1"), Granted)


async def test_the_same_id_is_the_same_grant(grants: SharedGrants) -> None:
    """Asked for again, or confirmed, it counts once and has its time; also when the window is full."""
    first = await grants.grant("ann", "1")
    assert isinstance(first, Granted)
    assert await grants.grant("ann", "1") == first
    assert await grants.confirm("ann", "1", first) == first
    for name in ("2", "3", "4"):
        await grants.grant("ann", name)
    again = await grants.confirm("ann", "1", first)
    assert isinstance(again, Granted)
    assert (again.at_us, again.quota.used) == (first.at_us, 3)


async def test_a_refund_gives_back_and_a_settled_grant_stays(grants: SharedGrants) -> None:
    """Once each, and only what is in flight here."""
    for name in ("1", "2", "3"):
        await grants.grant("ann", name)
    assert isinstance(await grants.grant("ann", "4"), Exceeded)
    await grants.refund("ann", "2")
    assert isinstance(await grants.grant("ann", "4"), Granted)
    await grants.settle("ann", "1")
    await grants.refund("ann", "1")
    await grants.refund("ann", "2")
    assert isinstance(await grants.grant("ann", "5"), Exceeded)


async def test_a_quota_of_nothing(grants: SharedGrants) -> None:
    """A look uses nothing, and leaves no trace."""
    quota = await grants.look("ann")
    assert (quota.used, quota.remaining, quota.next_slot_at_us) == (0, 3, quota.full_reset_at_us)


async def test_ten_in_flight_and_not_for_ever(
    valkey: Valkey, database: Database, owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over all processes; those of a process that has died are given up."""
    async with opened(valkey.url, database, owners, 100) as one, opened(valkey.url, database, owners, 100) as two:
        await seeded(one)
        for number in range(10):
            await (one if number % 2 else two).grant("ann", str(number))
        crowded = await one.grant("ann", "10")
        assert isinstance(crowded, Crowded)
        assert crowded.quota.used == 10
        await one.settle("ann", "1")
        assert isinstance(await one.grant("ann", "10"), Granted)
        assert isinstance(await two.grant("ann", "11"), Crowded)
        async with valkey.client() as client:
            assert await client.pttl(inflight_of("ann")) <= shared_grants.LIFE_US // 1000
            await client.delete(inflight_of("ann"))
        await two.settle("ann", "0")
        monkeypatch.setattr(shared_grants, "LIFE_US", 1)
        for number in range(20, 40):
            assert isinstance(await two.grant("ann", str(number)), Granted)


async def test_limits_of_their_own(valkey: Valkey, database: Database, owners: Owners) -> None:
    """They may change; a lower one takes nothing back."""
    limits = {"ann": 5}
    async with opened(valkey.url, database, owners, 1, limits) as grants:
        await seeded(grants)
        for number in range(5):
            last = await grants.grant("ann", str(number))
            await grants.settle("ann", str(number))
        assert isinstance(last, Granted)
        limits["ann"] = 2
        exceeded = await grants.grant("ann", "5")
        assert isinstance(exceeded, Exceeded)
        assert (exceeded.quota.used, exceeded.quota.remaining) == (5, 0)
        assert last.quota.next_slot_at_us < exceeded.quota.next_slot_at_us < last.quota.full_reset_at_us


async def test_keys_end_by_themselves(valkey: Valkey, grants: SharedGrants) -> None:
    """An hour and the lag after the last grant."""
    await grants.grant("ann", "1")
    async with valkey.client() as client:
        kept_ms = redis_seeding.KEPT_US // 1000
        assert kept_ms - 5000 < await client.pttl(log_of("ann")) <= kept_ms + 1


# --- round trips


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask nothing of Redis but what callers ask."""
    monkeypatch.setattr(shared_grants, "PAY_S", 3600.0)


@pytest.mark.usefixtures("quiet")
async def test_a_decision_is_one_call(valkey: Valkey, grants: SharedGrants) -> None:
    """Granted or refused; and a flood is refused without any."""
    await grants.grant("ann", "0")
    before = await valkey.calls("evalsha")
    await grants.grant("ann", "1")
    assert await valkey.calls("evalsha") == before + 1
    assert grants.noted("ann") is None
    for name in ("2", "3"):
        await grants.grant("ann", name)
    assert grants.noted("ann") is not None
    assert await valkey.calls("evalsha") == before + 3
    for number in range(1000):
        assert isinstance(await grants.grant("ann", f"more-{number}"), Exceeded)
    await grants.look("ann")
    assert await valkey.calls("evalsha") <= before + 3 + 5


async def test_a_note_is_told_for_a_second(grants: SharedGrants, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or until one of this process ends; there are not too many of them."""
    monkeypatch.setattr(notes, "MOST", 2)
    monkeypatch.setattr(notes, "KEPT_US", 20_000)
    for who in ("ann", "bob", "eve"):
        for number in range(4):
            decision = await grants.grant(who, str(number))
        assert isinstance(decision, Exceeded)
    await grants.refund("eve", "1")
    assert isinstance(await grants.grant("eve", "9"), Granted)
    await asyncio.sleep(0.03)
    assert isinstance(await grants.grant("ann", "9"), Exceeded)


async def test_scripts_that_are_forgotten_are_sent_again(valkey: Valkey, grants: SharedGrants) -> None:
    """NOSCRIPT is no failure."""
    await grants.grant("ann", "1")
    async with valkey.client() as client:
        await client.script_flush()
    assert isinstance(await grants.grant("ann", "2"), Granted)
    assert (await grants.look("ann")).used == 2


# --- failures


async def test_a_stopped_redis_fails_closed_and_the_limit_holds_after_it(
    valkey: Valkey, database: Database, grants: SharedGrants
) -> None:
    """503 while it is away; then it is empty, and learns from the ledger."""
    row = reserved("a:1", subscriber="ann", clock="redis", granted_us=())
    granted = [await grants.grant("ann", grant_id(row.request_id, n)) for n in range(3)]
    times = tuple(each.at_us for each in granted if isinstance(each, Granted))
    assert len(times) == 3
    await apply(
        database,
        [encode(reserved("a:1", subscriber="ann", clock="redis", granted_us=times, request_id=row.request_id))],
    )
    await valkey.stop()
    for call in (
        grants.grant("bob", "1"),
        grants.look("bob"),
        grants.confirm("bob", "x", Granted(1, Quota(1, 1, 1, 1))),
    ):
        with pytest.raises(EdgeError) as away:
            await call
        assert (away.value.problem.status, away.value.problem.reason) == (503, "limiter_unavailable")
        assert away.value.problem.retry_after_s
    await valkey.start()
    await seeded(grants)
    quota = await grants.look("ann")
    assert (quota.used, quota.next_slot_at_us) == (3, times[0] + HOUR_US)
    assert isinstance(await grants.grant("ann", "y"), Exceeded)
    assert (await grants.look("bob")).used == 0


async def test_a_grant_of_an_older_epoch_is_asked_for_again(valkey: Valkey, grants: SharedGrants) -> None:
    """It has its time again if there is room, and is refused if others have taken it; too old, it is not known."""
    first, second = await grants.grant("ann", "1"), await grants.grant("bob", "1")
    assert isinstance(first, Granted)
    assert isinstance(second, Granted)
    async with valkey.client() as client:
        await client.flushall()
    assert await grants.confirm("ann", "1", first) == NotSeeded()
    await seeded(grants)
    assert await grants.confirm("ann", "1", first) == first
    for name in ("2", "3", "4"):
        await grants.grant("bob", name)
    assert isinstance(await grants.confirm("bob", "1", second), Exceeded)
    old = Granted(first.at_us - shared_grants.LAG_US - 1, first.quota)
    assert await grants.confirm("eve", "1", old) == NotSeeded()
    early = Granted(first.at_us + HOUR_US, first.quota)
    assert isinstance(await grants.confirm("eve", "1", early), Granted)


async def test_a_server_that_kept_its_data_is_cold_as_well(
    tmp_path_factory: pytest.TempPathFactory, database: Database, owners: Owners
) -> None:
    """Its run id is another, and the end of what it did may be missing."""
    folder = tmp_path_factory.mktemp("v")
    valkey = Valkey(folder, appendonly="yes")
    await valkey.start()
    try:
        async with opened(valkey.url, database, owners) as grants:
            await seeded(grants)
            await grants.grant("ann", "1")
            async with valkey.client() as client:
                epoch = await client.hget(STATE, "epoch")
            await valkey.stop()
            await valkey.start()
            await seeded(grants)
            assert (await grants.look("ann")).used == 1
            async with valkey.client() as client:
                assert int(await client.hget(STATE, "epoch")) > int(epoch)
    finally:
        await valkey.stop()


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a short name."""
    return tmp_path_factory.mktemp("w")


async def test_a_stalled_way_costs_a_quarter_of_a_second_and_no_grant(
    valkey: Valkey, folder: Path, database: Database, owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What arrives late is not done: a grant that nobody waits for any more would be lost."""
    way = Way(folder, valkey.path)
    async with way.serving(), opened(way.url, database, owners) as grants:
        await seeded(grants)
        await grants.grant("ann", "1")
        way.stall()
        with monkeypatch.context() as usual:
            usual.setattr(redis_link, "CALL_S", USUAL_CALL_S)
            results = await asyncio.gather(*(grants.grant("ann", f"s{n}") for n in range(5)), return_exceptions=True)
        assert all(isinstance(each, EdgeError) and each.problem.reason == "limiter_unavailable" for each in results)
        await asyncio.sleep(0.1)
        way.resume()

        async def one() -> bool:
            try:
                return (await grants.look("ann")).used == 1
            except EdgeError:
                return False

        await until(one)
        await asyncio.sleep(0.1)
        async with valkey.client() as client:
            assert await client.zrange(log_of("ann"), 0, -1) == [b"1"]
        for number in range(2):
            assert isinstance(await grants.grant("ann", f"t{number}"), Granted)


async def test_a_refund_is_told_until_redis_has_it(
    valkey: Valkey, folder: Path, database: Database, owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when Redis does not answer at first."""
    way = Way(folder, valkey.path)
    async with way.serving(), opened(way.url, database, owners) as grants:
        await seeded(grants)
        await grants.grant("ann", "1")
        way.stall()
        monkeypatch.setattr(redis_link, "CALL_S", USUAL_CALL_S)
        await grants.refund("ann", "1")
        await asyncio.sleep(2 * USUAL_CALL_S)
        async with valkey.client() as client:
            assert await client.zcard(log_of("ann")) == 1
        way.resume()

        async def gone() -> bool:
            async with valkey.client() as client:
                return await client.zcard(log_of("ann")) == 0

        await until(gone)


async def test_a_server_that_evicts_is_not_used(valkey: Valkey, database: Database, owners: Owners) -> None:
    """A fault at the start that names the setting, and 503 when it is found later."""
    async with opened(valkey.url, database, owners) as grants:
        await seeded(grants)
        async with valkey.client() as client:
            await client.config_set("maxmemory-policy", "allkeys-lru")
            await client.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(EdgeError):
            await grants.grant("ann", "1")
    with pytest.raises(StartupError, match="maxmemory-policy allkeys-lru"):
        async with opened(valkey.url, database, owners):
            pass


async def test_a_connection_that_was_closed_is_made_again(valkey: Valkey, grants: SharedGrants) -> None:
    """Within the same call."""
    await grants.grant("ann", "1")
    async with valkey.client() as client:
        await client.client_kill_filter(_type="normal", skipme=True)
    assert isinstance(await grants.grant("ann", "2"), Granted)


async def test_a_full_memory_refuses(valkey: Valkey, grants: SharedGrants) -> None:
    """Rather than forget."""
    async with valkey.client() as client:
        await client.config_set("maxmemory", "1")
        with pytest.raises(EdgeError):
            await grants.grant("ann", "1")
        await client.config_set("maxmemory", "0")
    assert isinstance(await grants.grant("ann", "2"), Granted)


# --- who may seed


async def test_nothing_is_granted_until_every_owner_was_clean(
    valkey: Valkey, database: Database, owners: Owners
) -> None:
    """After the cold was noticed; or the hour is over."""
    clean = SimpleNamespace(now=False)
    async with open_owners(database, "b:2", lambda: clean.now, LOG) as other:
        await eventually(lambda: not other.absent)
        async with opened(valkey.url, database, owners) as grants:
            for _ in range(5):
                assert await grants.grant("ann", "1") == NotSeeded()
                await asyncio.sleep(0.02)
            clean.now = True
            await seeded(grants)
            clean.now = False
            async with valkey.client() as client:
                await client.flushall()
                assert await grants.grant("ann", "1") == NotSeeded()
                await asyncio.sleep(0.1)
                assert await grants.grant("ann", "1") == NotSeeded()
                cold_us = int(await client.hget(STATE, "cold_at"))
                await client.hset(STATE, "cold_at", cold_us - redis_seeding.KEPT_US)
            await seeded(grants)


async def test_redis_is_lost_while_rows_sit_in_another_gateways_journal(
    valkey: Valkey, database: Database, tmp_path: Path
) -> None:
    """And a grant is in flight: nothing is granted before they are in PostgreSQL, and then no more than the limit."""
    async with gateway("a:1", valkey, database, tmp_path) as one, gateway("b:2", valkey, database, tmp_path) as two:
        await seeded(one.grants)
        await eventually(lambda: not one.ledger.journaling)
        async with database.transaction() as connection:
            # Rows can be read, and not be written.
            await connection.execute("LOCK TABLE api_requests IN SHARE MODE")
            sent = [await one.send() for _ in range(2)]
            assert one.ledger.journaling
            flying, held = await one.ask()
            await valkey.stop()
            await valkey.start()
            for _ in range(5):
                assert await two.grants.grant("ann", "b") == NotSeeded()
                assert await one.grants.confirm("ann", flying, held) == NotSeeded()
                await asyncio.sleep(0.05)
        await seeded(two.grants)
        assert (await two.grants.look("ann")).used == 3
        assert isinstance(await two.grants.grant("ann", "b"), Exceeded)
        confirmed = await one.grants.confirm("ann", flying, held)
        assert isinstance(confirmed, Granted)
        assert {each.at_us for each in sent} <= set(await times_of(database))


@dataclass
class Process:
    """A gateway as far as grants and rows go."""

    owner: str
    grants: SharedGrants
    ledger: Ledger

    async def ask(self) -> tuple[str, Granted]:
        """Have a request granted, and its row durable."""
        request_id = uuid4()
        name = grant_id(request_id, 0)
        granted = await self.grants.grant("ann", name)
        assert isinstance(granted, Granted)
        times = (granted.at_us,)
        await self.ledger.write(
            reserved(self.owner, subscriber="ann", clock="redis", granted_us=times, request_id=request_id)
        )
        return name, granted

    async def send(self) -> Granted:
        """Do all of a request."""
        name, granted = await self.ask()
        confirmed = await self.grants.confirm("ann", name, granted)
        assert confirmed == granted
        await self.grants.settle("ann", name)
        return granted


@asynccontextmanager
async def gateway(name: str, valkey: Valkey, database: Database, folder: Path) -> AsyncIterator[Process]:
    """Compose a gateway's parts, each with a journal of its own."""
    with open_journal(folder / f"{name[0]}.journal", owner=name, size=1 << 16) as journal:
        async with (
            open_ledger(database, journal, LOG) as ledger,
            open_owners(database, name, lambda: not ledger.journaling, LOG) as owners,
            opened(valkey.url, database, owners) as grants,
        ):
            yield Process(name, grants, ledger)


async def times_of(database: Database) -> list[int]:
    """Return when all that stands in the ledger was granted."""
    return [row["at"] for row in await database.fetch("SELECT unnest(granted_us) AS at FROM api_requests")]


async def test_who_is_absent_grants_nothing(valkey: Valkey, database: Database, owners: Owners) -> None:
    """Nobody waits for its journal."""
    stranger = Owners(database, "s:3", lambda: True, LOG)
    async with opened(valkey.url, database, owners) as grants, opened(valkey.url, database, stranger) as absent:
        await seeded(grants)
        assert await absent.grant("ann", "1") == NotSeeded()
        assert isinstance(await grants.grant("ann", "1"), Granted)


# --- the clock


def test_steps_of_a_clock_are_told() -> None:
    """Forward by more than a call may be late; back is no harm, and neither is drift."""
    clock = RedisClock()
    assert clock.at(5) == 5
    assert clock.saw(1_000_000_000, 0) == 0
    assert clock.at(7) == 1_000_000_007
    assert clock.saw(1_000_900_000, 10) == 0
    assert clock.saw(1_000_000_000, 20) == 0
    assert clock.saw(1_001_500_000, 30) == 1_499_990
    assert clock.saw(1_001_500_000 + 10_000_000_000 + 9_000_000, 10_000_000_030) == 0
    assert clock.steps == 1
