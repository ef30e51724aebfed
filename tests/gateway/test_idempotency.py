"""Idempotency keys in a real PostgreSQL: what was sent under one is never sent again, whatever dies."""

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import structlog

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.credentials.sealing import Sealer
from sovren_edge.gateway.ledger.idempotency import Begun, Idempotency, open_idempotency, settle_dead
from sovren_edge.gateway.ledger.replays import LONGEST_BODY, Kept, Replay, fingerprint
from sovren_edge.gateway.migrations import HISTORY
from sovren_edge.local.postgres import run_postgres
from sovren_edge.store.database import Database, open_database
from sovren_edge.store.migrations import migrate
from sovren_edge.store.settings import DatabaseSettings

SETTINGS = DatabaseSettings()
SEALER = Sealer({"one": bytes(32)})
WHO = ("founder", "slack")
PRINT = fingerprint("POST", "https://slack.com/api", b"hello")
ANSWER = Kept(201, "Created", [("X-Odd", "\udcff\u20ac"), ("x-odd", "2")], b"body \x00\xff secret")


@pytest.fixture
def ours(database: Database) -> Idempotency:
    """Return a process."""
    return Idempotency(database, lambda: SEALER, "one")


@pytest.fixture
def theirs(database: Database) -> Idempotency:
    """Return another process."""
    return Idempotency(database, lambda: SEALER, "two")


async def begin(keys: Idempotency, key: str = "k", request: UUID | None = None, mark: bytes = PRINT) -> Begun:
    """Begin under a key that is free."""
    begun = await keys.begin(*WHO, key, mark, request or uuid4())
    assert isinstance(begun, Begun)
    return begun


async def complete(keys: Idempotency, begun: Begun, answer: Kept = ANSWER) -> None:
    """Keep an answer."""
    await keys.complete(begun, answer.status, answer.reason, answer.fields, answer.body)


async def refusal(keys: Idempotency, key: str = "k", mark: bytes = PRINT) -> str:
    """Return why a key cannot be had, and with which status."""
    with pytest.raises(EdgeError) as caught:
        await keys.begin(*WHO, key, mark, uuid4())
    return f"{caught.value.problem.status} {caught.value.problem.reason}"


async def replayed(keys: Idempotency, key: str = "k") -> Replay:
    """Return what is given again."""
    replay = await keys.begin(*WHO, key, PRINT, uuid4())
    assert isinstance(replay, Replay)
    return replay


async def test_an_answer_is_given_again(ours: Idempotency, theirs: Idempotency) -> None:
    """Byte for byte, by any process, any number of times, and with the id of the request that it is of."""
    begun = await begin(ours)
    assert await refusal(ours) == await refusal(theirs) == "409 idempotency_in_flight"
    await complete(ours, begun)
    assert await replayed(ours) == await replayed(theirs) == Replay(begun.request_id, ANSWER)


async def test_who_comes_while_it_runs_is_told_to_come_again(ours: Idempotency) -> None:
    """Soon: it may have been answered then."""
    await begin(ours)
    with pytest.raises(EdgeError) as caught:
        await begin(ours)
    assert caught.value.problem.retry_after_s == 1


@pytest.mark.parametrize("end", ["running", "kept", "unknown"])
async def test_a_key_stands_for_one_request(ours: Idempotency, end: str) -> None:
    """Whatever became of that."""
    begun = await begin(ours)
    if end == "kept":
        await complete(ours, begun)
    if end == "unknown":
        await ours.unknown(begun)
    assert (
        await refusal(ours, mark=fingerprint("POST", "https://slack.com/api", b"bye")) == "422 idempotency_key_reused"
    )


async def test_keys_of_others_are_others(ours: Idempotency) -> None:
    """Of another subscriber or service, and other keys."""
    await begin(ours)
    for subscriber, service, key in (("other", "slack", "k"), ("founder", "zoom", "k"), ("founder", "slack", "K")):
        assert isinstance(await ours.begin(subscriber, service, key, PRINT, uuid4()), Begun)


async def test_a_request_that_was_not_sent_frees_its_key(ours: Idempotency) -> None:
    """Also for another request."""
    await ours.forget(await begin(ours))
    await ours.forget(await begin(ours, mark=b"other"))
    await begin(ours)


async def test_an_unknown_outcome_stays_unknown(ours: Idempotency, theirs: Idempotency) -> None:
    """It is never sent again under this key."""
    await ours.unknown(await begin(ours))
    await ours.settle()
    assert await refusal(ours) == await refusal(theirs) == "409 idempotency_outcome_unknown"


@pytest.mark.parametrize("body", [None, bytes(LONGEST_BODY + 1)])
async def test_a_long_answer_is_not_kept(ours: Idempotency, body: bytes | None) -> None:
    """Its key is spent all the same."""
    await ours.complete(await begin(ours), 200, "OK", [], body)
    assert await refusal(ours) == "409 idempotency_answer_not_kept"


async def test_the_longest_answer_is_kept(ours: Idempotency) -> None:
    """A mebibyte."""
    answer = Kept(200, "OK", [], random.Random(1).randbytes(LONGEST_BODY))
    await complete(ours, await begin(ours), answer)
    assert (await replayed(ours)).answer == answer


async def test_without_keys_to_seal_with_no_answer_is_kept(database: Database, ours: Idempotency) -> None:
    """And none is given whose key has gone; nothing is sent twice for that."""
    none = Idempotency(database, lambda: None, "one")
    await complete(none, await begin(none))
    assert await refusal(none) == "409 idempotency_answer_not_kept"
    await complete(ours, await begin(ours, "other"))
    for blind in (none, Idempotency(database, lambda: Sealer({"two": bytes(32)}), "one")):
        assert await refusal(blind, "other") == "409 idempotency_answer_not_kept"


async def test_answers_are_sealed(database: Database, ours: Idempotency) -> None:
    """And a row that was copied to another key does not open."""
    await complete(ours, await begin(ours))
    sealed = await database.fetchval("SELECT answer FROM idempotency_keys")
    assert b"secret" not in sealed
    await database.execute("UPDATE idempotency_keys SET key = 'copied'")
    assert await refusal(ours, "copied") == "409 idempotency_answer_not_kept"


async def test_a_key_is_free_after_a_day(database: Database, ours: Idempotency, theirs: Idempotency) -> None:
    """Taken over before its row is removed, or removed; not a minute before."""
    await complete(ours, await begin(ours))
    await database.execute("UPDATE idempotency_keys SET created_at = now() - interval '23 hours 59 minutes'")
    await ours.settle()
    await replayed(ours)
    await database.execute("UPDATE idempotency_keys SET created_at = now() - interval '24 hours'")
    begun = await begin(theirs, mark=b"other")
    await complete(theirs, begun)
    assert await database.fetchval("SELECT owner FROM idempotency_keys") == "two"
    await database.execute("UPDATE idempotency_keys SET created_at = now() - interval '24 hours'")
    await ours.settle()
    assert await database.fetchval("SELECT count(*) FROM idempotency_keys") == 0


async def test_who_has_lost_a_key_says_nothing_about_it(
    database: Database, ours: Idempotency, theirs: Idempotency
) -> None:
    """It was his for a day; what becomes of his request is not what became of theirs."""
    late = [await begin(ours, key) for key in ("kept", "unknown", "free")]
    await database.execute("UPDATE idempotency_keys SET created_at = now() - interval '24 hours'")
    for key in ("kept", "unknown", "free"):
        await begin(theirs, key)
    await complete(ours, late[0])
    await ours.unknown(late[1])
    await ours.forget(late[2])
    for key in ("kept", "unknown", "free"):
        assert await refusal(theirs, key) == "409 idempotency_in_flight"


async def test_of_many_at_once_one_begins(ours: Idempotency, theirs: Idempotency) -> None:
    """In two processes; the others are told so."""

    async def attempt(keys: Idempotency) -> object:
        try:
            return await keys.begin(*WHO, "k", PRINT, uuid4())
        except EdgeError as error:
            return error.problem.reason

    found = await asyncio.gather(*(attempt(keys) for keys in (ours, theirs) * 20))
    assert sum(isinstance(each, Begun) for each in found) == 1
    assert found.count("idempotency_in_flight") == 39


async def test_a_caller_that_leaves_leaves_no_key_behind(database: Database, ours: Idempotency) -> None:
    """Nothing was sent."""
    async with locked(database):
        await cancelled_while_waiting(database, begin(ours))
    await ours.settle()
    await begin(ours, mark=b"other")


async def test_a_commit_that_comes_too_late_keeps_no_key(database: Database, ours: Idempotency) -> None:
    """Its caller was told 503 or is gone, so nothing was sent; its row is removed as soon as it is seen."""
    row = (*WHO, "k", PRINT, uuid4(), "one", "running")
    await database.execute("INSERT INTO idempotency_keys VALUES ($1, $2, $3, $4, $5, $6, $7)", *row)
    assert await refusal(ours) == "409 idempotency_in_flight"
    await ours.settle()
    await begin(ours, mark=b"other")


@asynccontextmanager
async def locked(database: Database) -> AsyncIterator[None]:
    """Let nobody read or write keys for now."""
    async with database.transaction() as connection:
        await connection.execute("LOCK TABLE idempotency_keys")
        yield


async def cancelled_while_waiting(database: Database, call: Coroutine[None, None, object]) -> None:
    """Cancel a call once it waits for a lock."""
    calling = asyncio.create_task(call)
    async with asyncio.timeout(30):
        while not await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 - PostgreSQL's
            await asyncio.sleep(0.005)
    calling.cancel()
    await asyncio.wait({calling})
    assert calling.cancelled()


async def test_what_is_open_is_never_removed(ours: Idempotency, theirs: Idempotency) -> None:
    """Not while it is begun, and nobody touches what is another's."""
    await begin(ours)
    for keys in (ours, theirs):
        await keys.settle()
        assert await refusal(keys) == "409 idempotency_in_flight"


async def test_what_a_dead_process_had_in_hand_is_unknown(
    database: Database, ours: Idempotency, theirs: Idempotency
) -> None:
    """Until then it is in flight; what others have, and what had ended, stays as it was."""
    await begin(ours, "sent")
    await begin(theirs, "living")
    await complete(ours, await begin(ours, "ended"))
    assert await refusal(theirs, "sent") == "409 idempotency_in_flight"
    await settle_dead(database, "one")
    assert await refusal(theirs, "sent") == "409 idempotency_outcome_unknown"
    assert await refusal(theirs, "living") == "409 idempotency_in_flight"
    assert (await replayed(theirs, "ended")).answer == ANSWER


async def test_who_was_taken_for_dead_may_still_say_how_it_ended(database: Database, ours: Idempotency) -> None:
    """Its answer is better than none."""
    begun = await begin(ours)
    await settle_dead(database, "one")
    await complete(ours, begun)
    assert (await replayed(ours)).answer == ANSWER


@asynccontextmanager
async def stopping(directory: Path) -> AsyncIterator[str]:
    """Make a server that is stopped for now."""
    async with run_postgres(directory, 5432) as postgres:
        await migrate(postgres.url, SETTINGS.schema_name, [HISTORY])
    yield postgres.url


async def test_what_postgres_does_not_take_is_written_later(tmp_path: Path) -> None:
    """Callers have their answers meanwhile; a key that cannot be promised is 503."""
    async with stopping(tmp_path) as url, open_database(url, SETTINGS) as database:
        keys = Idempotency(database, lambda: SEALER, "one")
        async with run_postgres(tmp_path, 5432):
            kept, free, dark = [await begin(keys, key) for key in ("kept", "free", "dark")]
        await complete(keys, kept)
        await keys.forget(free)
        await keys.unknown(dark)
        assert await refusal(keys, "new") == "503 database_unavailable"
        await keys.settle()
        assert keys.waiting == 2
        async with run_postgres(tmp_path, 5432):
            assert await refusal(keys, "kept") == "409 idempotency_in_flight"
            await keys.settle()
            assert keys.waiting == 0
            assert (await replayed(keys, "kept")).answer == ANSWER
            assert await refusal(keys, "dark") == "409 idempotency_outcome_unknown"
            await begin(keys, "free", mark=b"other")
            await begin(keys, "new", mark=b"other")


async def test_answers_that_wait_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond that they are not kept; their keys are spent all the same."""
    monkeypatch.setattr("sovren_edge.gateway.ledger.idempotency.WAITING_MOST", 10)
    async with stopping(tmp_path) as url, open_database(url, SETTINGS) as database:
        async with run_postgres(tmp_path, 5432):
            keys = Idempotency(database, lambda: SEALER, "one")
            begun = [await begin(keys, key) for key in ("first", "second")]
        for each in begun:
            await complete(keys, each)
        async with run_postgres(tmp_path, 5432):
            await keys.settle()
            assert (await replayed(keys, "first")).answer == ANSWER
            assert await refusal(keys, "second") == "409 idempotency_answer_not_kept"
            await complete(keys, await begin(keys, "third"))
            assert (await replayed(keys, "third")).answer == ANSWER


@pytest.mark.parametrize("when", ["meanwhile", "at the end"])
async def test_what_its_caller_did_not_wait_for_is_written(
    database: Database, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Now and then, and at the end of a process at the latest."""
    if when == "meanwhile":
        monkeypatch.setattr("sovren_edge.gateway.ledger.idempotency.SETTLE_S", 0.01)
    async with open_idempotency(database, lambda: SEALER, "one", structlog.get_logger()) as keys:
        begun = await begin(keys)
        async with locked(database):
            await cancelled_while_waiting(database, complete(keys, begun))
        if when == "meanwhile":
            await until_kept(database)
    assert (await replayed(keys)).answer == ANSWER


async def until_kept(database: Database) -> None:
    """Wait until an answer is kept."""
    async with asyncio.timeout(20):
        while not await database.fetchval("SELECT true FROM idempotency_keys WHERE state = 'kept'"):  # noqa: ASYNC110 - PostgreSQL's
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("seed", range(6))
async def test_nothing_is_sent_twice_whatever_dies(database: Database, seed: int) -> None:
    """Many steps of processes that begin, end, die and settle: of each key, one request at most is sent."""
    chance = random.Random(seed)
    processes = {name: Idempotency(database, lambda: SEALER, name) for name in ("p0", "p1")}
    at_hand: dict[str, list[Begun]] = {name: [] for name in processes}
    sent: dict[str, UUID] = {}
    for step in range(150):
        name = chance.choice(list(processes))
        keys, begun = processes[name], at_hand[name]
        match chance.choice(["begin", "begin", "begin", "end", "settle", "die"]):
            case "begin":
                key = f"k{chance.randrange(6)}"
                try:
                    found = await keys.begin(*WHO, key, PRINT, uuid4())
                except EdgeError as error:
                    assert error.problem.status == 409  # noqa: PT017 - it is not always raised
                    continue
                if isinstance(found, Replay):
                    assert found.request_id == sent[key]
                    continue
                assert key not in sent, "it would be sent again"
                if chance.random() < 0.3:
                    await keys.forget(found)
                else:
                    sent[key] = found.request_id
                    begun.append(found)
            case "end" if begun:
                ending = begun.pop(chance.randrange(len(begun)))
                await (complete(keys, ending) if chance.random() < 0.5 else keys.unknown(ending))
            case "settle":
                await keys.settle()
            case "die":
                del processes[name], at_hand[name]
                processes[f"p{step}-again"] = Idempotency(database, lambda: SEALER, f"p{step}-again")
                at_hand[f"p{step}-again"] = []
                if chance.random() < 0.5:
                    await settle_dead(database, name)
    assert sent
