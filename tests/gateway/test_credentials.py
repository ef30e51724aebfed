"""Credentials: found, refreshed at a real authorization server with TLS, and stored in a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qs

import orjson
import pytest
import structlog
from harness import eventually
from structlog.testing import capture_logs

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.credentials.credentials import FRESH_S, Credential, Credentials, open_credentials
from sovren_edge.gateway.credentials.oauth import OAuthSecret
from sovren_edge.gateway.credentials.refreshing import PAUSE_S, Refresher
from sovren_edge.gateway.credentials.sealing import Sealer
from sovren_edge.gateway.credentials.store import CredentialStore, HeaderSecret, Purpose, Secret, remove_credential
from sovren_edge.gateway.migrations import HISTORY
from sovren_edge.local.postgres import run_postgres
from sovren_edge.store.database import Database, open_database
from sovren_edge.store.migrations import migrate
from sovren_edge.store.settings import DatabaseSettings
from tests.gateway.tls_upstream import OTHER, Call, Stage

SETTINGS = DatabaseSettings()
SEALER = Sealer({"one": bytes(32)})
STORE = CredentialStore(lambda: SEALER)
FOR = Purpose("founder", "slack", "slack.com")
NOON = 1_800_000_000.0
LIFE_S = 3600.0
SECRET = OAuthSecret(
    token_url=f"https://{OTHER}/token", client_id="us", client_secret="hush", refresh_token="refresh-0",
    access_token="access-0", obtained_at=NOON, lifetime_s=LIFE_S,
)  # fmt: skip


@dataclass
class Clock:
    """Both clocks, moved by hand."""

    s: float = 0.0

    def unix(self) -> float:
        """Return seconds since 1970."""
        return NOON + self.s

    def now_s(self) -> float:
        """Return seconds."""
        return self.s


@dataclass
class Authority:
    """An authorization server that takes each refresh token once, and answers when it is open."""

    tokens: int = 0
    asked: list[dict[str, str]] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    refuses: bool = False
    before_answer: Callable[[], Awaitable[object]] | None = None

    async def script(self, call: Call) -> None:
        """Answer a call."""
        self.asked.append({name: value for name, (value,) in parse_qs((await call.body()).decode()).items()})
        await self.open.wait()
        if call.writer.is_closing():
            return
        if self.before_answer is not None:
            await self.before_answer()
        status, members = self.answer(self.asked[-1])
        body = orjson.dumps(members)
        call.writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))

    def answer(self, asked: dict[str, str]) -> tuple[int, dict[str, object]]:
        """Give the next tokens."""
        if self.refuses or asked["refresh_token"] != f"refresh-{self.tokens}":
            return 400, {"error": "invalid_grant", "error_description": "hush"}
        self.tokens += 1
        given = {"access_token": f"access-{self.tokens}", "refresh_token": f"refresh-{self.tokens}"}
        return 200, {**given, "token_type": "Bearer", "expires_in": int(LIFE_S)}


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def server(stage: Stage) -> Authority:
    """Return the authorization server behind the stage."""
    server = Authority()
    server.open.set()
    stage.upstream.script = server.script
    return server


@asynccontextmanager
async def process(
    database: Database, stage: Stage, clock: Clock, store: CredentialStore = STORE
) -> AsyncIterator[Credentials]:
    """Open what one process of the gateway has."""
    refresher = Refresher(database, store, lambda: stage.egress, clock.unix, structlog.get_logger())
    async with asyncio.TaskGroup() as tasks:
        yield Credentials(database, store, refresher, tasks.create_task, now=clock.unix, now_s=clock.now_s)


@pytest.fixture
async def ours(database: Database, stage: Stage, clock: Clock) -> AsyncIterator[Credentials]:
    """Return a process."""
    async with process(database, stage, clock) as credentials:
        yield credentials


async def put(database: Database, secret: Secret = SECRET, purpose: Purpose = FOR) -> None:
    """Store a secret, as an operator does."""
    await STORE.put(database, purpose, "Authorization", secret)


async def kept(database: Database, purpose: Purpose = FOR) -> Secret:
    """Return what is stored."""
    stored = await STORE.read(database, purpose)
    assert stored is not None
    return STORE.open(stored)


async def value(credentials: Credentials, purpose: Purpose = FOR) -> str | None:
    """Return the value that is sent, if any is."""
    found = await credentials.find(purpose)
    return None if found is None else found.value


async def refusal(credentials: Credentials, purpose: Purpose = FOR) -> str:
    """Return why there is no credential."""
    with pytest.raises(EdgeError) as caught:
        await credentials.find(purpose)
    problem = caught.value.problem
    assert "hush" not in problem.detail
    assert "refresh-" not in problem.detail
    return f"{problem.status} {problem.reason}: {problem.detail}"


async def until(ask: Callable[[], Awaitable[object]], expected: object) -> None:
    """Wait until the answer is as expected."""
    async with asyncio.timeout(30):
        while await ask() != expected:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)


async def test_a_credential_is_for_its_purpose_alone(database: Database, ours: Credentials) -> None:
    """Another subscriber, another service, and above all another host, though it is below this one, get none."""
    await STORE.put(database, FOR, "X-Api-Key", HeaderSecret("token"))
    assert await ours.find(FOR) == Credential("X-Api-Key", "token")
    for other in (
        FOR._replace(host="evil.slack.com"), FOR._replace(host="com"), FOR._replace(host="lack.com"),
        FOR._replace(service="zoom"), FOR._replace(subscriber="founde"),
    ):  # fmt: skip
        assert await ours.find(other) is None


async def test_a_change_is_in_force_soon(database: Database, ours: Credentials, clock: Clock) -> None:
    """One that was set, set again, and removed."""
    assert await value(ours) is None
    for expected in ("one", "two"):
        await put(database, HeaderSecret(expected))
        clock.s += FRESH_S
        assert await value(ours) == expected
    await remove_credential(database, FOR)
    clock.s += FRESH_S
    assert await value(ours) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("host = 'b.com'", "sealed for something else"),
        ("header = 'X'", "sealed for something else"),
        ("kind = 'oauth'", "sealed for something else"),
        ("sealed = '\\x00'", "no seal of ours"),
    ],
)
async def test_a_row_that_was_changed_does_not_open(
    database: Database, ours: Credentials, change: str, why: str
) -> None:
    """Whoever can write to the database cannot move a credential to a host of his own."""
    await put(database, HeaderSecret("token"))
    await database.execute(f"UPDATE credentials SET {change}")  # noqa: S608 - the test's own
    purpose = FOR._replace(host="b.com") if "host" in change else FOR
    said = await refusal(ours, purpose)
    assert said.startswith("503 credential_unreadable: ")
    assert why in said


async def test_a_form_that_is_not_known_does_not_open(database: Database, ours: Credentials) -> None:
    """A newer program has written it."""
    await put(database, HeaderSecret("token"))
    for form in (b"{}", b"[]", b'{"value":"x","more":1}', b"x"):
        sealed = SEALER.seal(form, *FOR, "header", "Authorization")
        await database.execute("UPDATE credentials SET sealed = $1", sealed)
        with pytest.raises(EdgeError, match="form is not known"):
            await ours.renew(FOR, "x") or await ours.find(FOR)


async def test_without_its_key_nothing_opens(database: Database, stage: Stage, clock: Clock) -> None:
    """And nothing can be stored; where nothing is stored, no key is missed."""
    await put(database)
    for store, why in (
        (CredentialStore(lambda: None), "no keys"),
        (CredentialStore(lambda: Sealer({"two": bytes(32)})), "'one'"),
    ):
        async with process(database, stage, clock, store) as credentials:
            assert why in await refusal(credentials)
            assert await credentials.renew(FOR, SECRET.value) is None
            assert await value(credentials, FOR._replace(host="other.com")) is None
    with pytest.raises(ValueError, match="no keys"):
        await CredentialStore(lambda: None).put(database, FOR, "X", SECRET)


async def test_known_ones_serve_while_postgres_is_away(tmp_path: Path, stage: Stage, clock: Clock) -> None:
    """Others are 503: nobody can tell whether there is one."""
    async with AsyncExitStack() as running:
        postgres = await running.enter_async_context(run_postgres(tmp_path, 5432))
        await migrate(postgres.url, SETTINGS.schema_name, [HISTORY])
        async with open_database(postgres.url, SETTINGS) as database, process(database, stage, clock) as credentials:
            await put(database)
            assert await value(credentials) == "Bearer access-0"
            await running.aclose()
            for _ in range(3):
                clock.s += FRESH_S
                assert await value(credentials) == "Bearer access-0"
            assert (await refusal(credentials, FOR._replace(host="b.com"))).startswith("503 database_unavailable")
            clock.s += LIFE_S
            assert (await refusal(credentials)).startswith("503 database_unavailable")


async def test_a_token_that_has_expired_is_refreshed_once(
    database: Database, stage: Stage, clock: Clock, server: Authority
) -> None:
    """By whoever is first, of all callers of two processes; its refresh token is of use once only."""
    await put(database)
    clock.s = LIFE_S
    async with process(database, stage, clock) as ours, process(database, stage, clock) as theirs:
        found = await asyncio.gather(*(value(credentials) for credentials in (ours, theirs) * 10))
        assert set(found) == {"Bearer access-1"}
        assert len(server.asked) == 1
        clock.s *= 2
        assert await value(theirs) == await value(ours) == "Bearer access-2"
        assert len(server.asked) == 2
    expected = replace(SECRET, access_token="access-2", refresh_token="refresh-2", obtained_at=NOON + 2 * LIFE_S)
    assert await kept(database) == expected


async def test_a_token_that_is_about_to_expire_is_sent_meanwhile(
    database: Database, ours: Credentials, clock: Clock, server: Authority
) -> None:
    """Nobody waits for the next one."""
    await put(database)
    server.open.clear()
    clock.s = LIFE_S - 1
    assert [await value(ours), await value(ours)] == ["Bearer access-0"] * 2
    await eventually(lambda: server.asked)
    server.open.set()
    await until(lambda: value(ours), "Bearer access-1")
    assert len(server.asked) == 1


async def test_a_first_token_is_got_for_the_client_itself(
    database: Database, ours: Credentials, server: Authority, stage: Stage
) -> None:
    """With no refresh token and no access token; its proof is in the field made for it."""
    await put(database, OAuthSecret(token_url=SECRET.token_url, client_id="us", client_secret="hush"))
    server.refuses = True
    assert "it answered 400 and invalid_grant" in await refusal(ours)
    assert server.asked == [{"grant_type": "client_credentials"}]
    assert stage.upstream.calls[0].values("authorization") == ["Basic dXM6aHVzaA=="]
    assert stage.upstream.calls[0].line == "POST /token HTTP/1.1"


async def test_a_server_that_refuses_is_not_asked_all_the_time(
    database: Database, ours: Credentials, clock: Clock, server: Authority
) -> None:
    """It is told once in the log, without a secret; a credential that was set anew is tried at once."""
    await put(database)
    server.refuses = True
    clock.s = LIFE_S
    with capture_logs() as logs:
        for _ in range(3):
            assert "credential_refresh_failed" in await refusal(ours)
    (line,) = logs
    assert (line["event"], line["host"], line["subscriber"]) == ("credential_refresh_failed", FOR.host, FOR.subscriber)
    assert not any(word in str(line) for word in ("hush", "access-0", "refresh-0"))
    assert len(server.asked) == 1
    clock.s += PAUSE_S
    await refusal(ours)
    assert len(server.asked) == 2
    assert ours.refresh_failures == 2
    server.refuses = False
    await put(database, replace(SECRET, scope="read"))
    assert await value(ours) == "Bearer access-1"


async def test_one_that_cannot_be_refreshed_serves_to_its_end(
    database: Database, ours: Credentials, clock: Clock, server: Authority
) -> None:
    """Its server may come to its senses."""
    await put(database)
    server.refuses = True
    clock.s = LIFE_S - 1
    assert await value(ours) == "Bearer access-0"
    await eventually(lambda: server.asked)
    assert await value(ours) == "Bearer access-0"
    clock.s = LIFE_S
    assert "502 credential_refresh_failed" in await refusal(ours)


async def test_what_upstream_refused_is_renewed(
    database: Database, ours: Credentials, clock: Clock, server: Authority
) -> None:
    """Once; a token that is young is refused for something else."""
    await put(database)
    clock.s = 100
    assert await ours.renew(FOR, "Bearer access-0") == Credential("Authorization", "Bearer access-1")
    assert await value(ours) == "Bearer access-1"
    assert await ours.renew(FOR, "Bearer access-0") == Credential("Authorization", "Bearer access-1")
    assert await ours.renew(FOR, "Bearer access-1") is None
    assert len(server.asked) == 1
    server.refuses = True
    clock.s = 200
    assert await ours.renew(FOR, "Bearer access-1") is None


async def test_a_plain_value_is_renewed_by_an_operator_alone(database: Database, ours: Credentials) -> None:
    """If another is stored than upstream has refused, that is tried, however fresh the old one was thought to be."""
    assert await ours.renew(FOR, "old") is None
    await put(database, HeaderSecret("old"))
    assert await value(ours) is None
    assert await ours.renew(FOR, "old") is None
    assert await value(ours) == "old"
    await put(database, HeaderSecret("new"))
    assert await ours.renew(FOR, "old") == Credential("Authorization", "new")
    assert await value(ours) == "new"


async def test_a_caller_that_leaves_loses_no_token(
    database: Database, ours: Credentials, clock: Clock, server: Authority
) -> None:
    """Its server has taken the old one back by then."""
    await put(database)
    clock.s = LIFE_S
    server.open.clear()
    finding = asyncio.create_task(value(ours))
    await eventually(lambda: server.asked)
    finding.cancel()
    await asyncio.wait({finding})
    server.open.set()
    assert await value(ours) == "Bearer access-1"
    assert len(server.asked) == 1


async def test_the_end_of_a_process_waits_for_a_token(database: Database, stage: Stage, server: Authority) -> None:
    """For the same reason."""
    await put(database)
    server.open.clear()
    end_s = NOON + LIFE_S
    log = structlog.get_logger()
    async with open_credentials(
        database, lambda: stage.egress, lambda: SEALER, log, now=lambda: end_s - 1
    ) as credentials:
        assert await value(credentials) == "Bearer access-0"
        await eventually(lambda: server.asked)
        server.open.set()
    assert await kept(database) == replace(
        SECRET, access_token="access-1", refresh_token="refresh-1", obtained_at=end_s - 1
    )


async def test_what_the_database_did_not_take_is_stored_later(
    database: Database, ours: Credentials, clock: Clock, server: Authority
) -> None:
    """The connection breaks after the server has answered: it is not asked again, its first answer is stored."""
    await put(database)
    clock.s = LIFE_S

    async def end_the_session() -> None:
        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'"
        )

    server.before_answer = end_the_session
    assert "503 database_unavailable" in await refusal(ours)
    assert await kept(database) == SECRET
    assert await value(ours) == "Bearer access-1"
    assert len(server.asked) == 1
    assert await kept(database) != SECRET


async def test_one_that_was_set_meanwhile_counts(
    database: Database, ours: Credentials, clock: Clock, server: Authority
) -> None:
    """What was not stored was of another one, and is forgotten."""
    await put(database)
    clock.s = LIFE_S

    async def replace_it() -> None:
        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'"
        )
        await put(database, HeaderSecret("operator's"))

    server.before_answer = replace_it
    assert "503 database_unavailable" in await refusal(ours)
    assert await value(ours) == "operator's"


async def test_a_process_that_dies_while_it_refreshes_holds_up_nobody(
    database: Database, stage: Stage, clock: Clock, server: Authority
) -> None:
    """Its lock ends with it."""
    await put(database)
    clock.s = LIFE_S
    server.open.clear()
    tasks: list[asyncio.Task[None]] = []

    def spawn(job: object) -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(job))  # type: ignore[arg-type]
        return tasks[-1]

    refresher = Refresher(database, STORE, lambda: stage.egress, clock.unix, structlog.get_logger())
    dying = Credentials(database, STORE, refresher, spawn, now=clock.unix, now_s=clock.now_s)
    async with process(database, stage, clock) as ours:
        theirs = asyncio.create_task(value(dying))
        await eventually(lambda: server.asked)
        waiting = asyncio.create_task(value(ours))
        for task in (*tasks, theirs):
            task.cancel()
        await eventually(stage.upstream.calls[0].writer.is_closing)
        server.open.set()
        assert await waiting == "Bearer access-1"


@pytest.mark.parametrize("what", ["removed", "replaced"])
async def test_a_change_while_others_refresh(
    database: Database, stage: Stage, clock: Clock, server: Authority, what: str
) -> None:
    """Who waits for them sees it as soon as they are done: an operator's word is the last one."""
    await put(database)
    clock.s = LIFE_S
    server.open.clear()
    async with process(database, stage, clock) as ours, process(database, stage, clock) as theirs:
        refreshing = asyncio.create_task(value(theirs))
        await eventually(lambda: server.asked)
        change = remove_credential(database, FOR) if what == "removed" else put(database, HeaderSecret("operator's"))
        changing: asyncio.Task[object] = asyncio.create_task(change)
        server.open.set()
        await asyncio.wait({refreshing, changing})
        clock.s += FRESH_S
        assert await value(ours) == (None if what == "removed" else "operator's")


async def test_one_that_is_gone_is_not_refreshed(
    database: Database, ours: Credentials, clock: Clock, server: Authority
) -> None:
    """Although it was known a moment ago."""
    await put(database)
    assert await value(ours) == "Bearer access-0"
    await remove_credential(database, FOR)
    clock.s = FRESH_S - 1
    assert await value(ours) == "Bearer access-0"
    assert await ours.renew(FOR, "Bearer access-0") is None
    assert await value(ours) is None
    assert server.asked == []


async def test_nobody_waits_for_ever_for_others(
    database: Database, stage: Stage, clock: Clock, server: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks the server has its time, and loses nothing; who waits for that is told."""
    await put(database)
    clock.s = LIFE_S
    server.open.clear()
    monkeypatch.setattr("sovren_edge.gateway.credentials.refreshing.WAIT_S", 0.3)
    async with process(database, stage, clock) as ours, process(database, stage, clock) as theirs:
        refreshing = asyncio.create_task(value(theirs))
        await eventually(lambda: server.asked)
        assert "others are at it" in await refusal(ours)
        server.open.set()
        assert await refreshing == "Bearer access-1"


async def test_servers_that_hang_do_not_use_up_the_connections(
    gateway_url: str, stage: Stage, clock: Clock, server: Authority
) -> None:
    """Three at once wait for theirs; the ledger needs the others."""
    server.open.clear()
    settings = SETTINGS.model_copy(update={"connections": 4})
    async with open_database(gateway_url, settings) as database, process(database, stage, clock) as ours:
        purposes = [FOR._replace(host=f"host-{number}.com") for number in range(6)]
        for purpose in purposes:
            await put(database, purpose=purpose)
            await value(ours, purpose)
        clock.s = LIFE_S
        finding = [asyncio.create_task(value(ours, purpose)) for purpose in purposes]
        await eventually(lambda: len(server.asked) == 3)
        assert await database.ready()
        server.refuses = True
        server.open.set()
        await asyncio.wait(finding)
        assert all(isinstance(each.exception(), EdgeError) for each in finding)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://www.example.com/token", "scheme_not_allowed"),
        ("https://10.0.0.1/token", "ip_prohibited"),
        ("https://inside.example.com/token", "destination_ip_prohibited"),
        ("https://nowhere.example.com/token", "dns_error"),
    ],
)
async def test_a_token_url_leads_only_where_requests_may(
    database: Database, ours: Credentials, stage: Stage, url: str, why: str
) -> None:
    """Out, by TLS, to public addresses."""
    stage.names.records["inside.example.com", "A"] = ["10.0.0.1"]
    await put(database, replace(SECRET, token_url=url, access_token=""))
    assert f"({why})" in await refusal(ours)


async def test_a_server_that_does_not_answer_in_time(
    database: Database, ours: Credentials, server: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has failed."""
    monkeypatch.setattr("sovren_edge.gateway.credentials.refreshing.ANSWER_S", 0.1)
    server.open.clear()
    await put(database, replace(SECRET, access_token=""))
    assert "did not answer in time" in await refusal(ours)


async def test_an_answer_without_an_end(database: Database, ours: Credentials, stage: Stage) -> None:
    """It is not read for ever."""
    stage.upstream.says(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + b" " * 100_000)
    await put(database, replace(SECRET, access_token=""))
    assert "too long" in await refusal(ours)


async def test_nothing_stored_is_a_secret(database: Database) -> None:
    """Nor is anything that is printed of it."""
    await put(database)
    row = await database.fetchrow("SELECT * FROM credentials")
    stored = await STORE.read(database, FOR)
    secrets = (SECRET.access_token, SECRET.refresh_token, SECRET.client_secret)
    for told in (str(row), repr(stored), repr(SECRET), repr(HeaderSecret("hush")), repr(Credential("A", "hush"))):
        assert not any(secret in told for secret in secrets)
