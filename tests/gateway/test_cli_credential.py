"""The commands that keep credentials: a real database, secrets from standard input or a terminal, never shown."""

import asyncio
import base64
import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.credentials.oauth import OAuthSecret
from sovren_edge.gateway.credentials.rotation import rotate
from sovren_edge.gateway.credentials.sealing import Sealer, read_keys
from sovren_edge.gateway.credentials.store import CredentialStore, HeaderSecret, Purpose, Secret
from sovren_edge.gateway.migrations import HISTORY
from sovren_edge.local.postgres import run_postgres
from sovren_edge.store.database import Database, open_database
from sovren_edge.store.migrations import migrate
from sovren_edge.store.settings import DatabaseSettings
from tests.gateway.commands import ONE, Call, caller, settle
from tests.gateway.commands import fault as one_line

SETTINGS = DatabaseSettings()
TWO = f"two:{base64.b64encode(bytes([2] * 32)).decode()}"
CONFIG = """
[database]
url = "env:DATABASE_URL"

[gateway]
credential_keys = "env:KEYS"

[gateway.services.slack]
hosts = ["slack.com"]

[gateway.services.zoom]
hosts = ["api.zoom.us"]
"""
FOR = Purpose("founder", "slack", "files.slack.com")
OAUTH = ("--oauth", "--token-url", "https://login.slack.com/token", "--client-id", "us")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateway_url: str) -> Call:
    """Return a way to call `credential` in a directory with a configuration, over an empty database."""
    settle(tmp_path, monkeypatch, gateway_url, CONFIG)
    return caller("credential")


async def with_database(url: str, do: Callable[[Database], object]) -> object:
    """Do something with a database."""
    async with open_database(url, SETTINGS) as database:
        return await do(database)  # type: ignore[misc]


def stored(url: str, keys: str = ONE, purpose: Purpose = FOR) -> tuple[str, Secret] | None:
    """Return what is stored: the field, and the secret."""
    store = CredentialStore(lambda: Sealer(read_keys(keys)))
    found = asyncio.run(with_database(url, lambda database: store.read(database, purpose)))
    return (found.header, store.open(found)) if found else None  # type: ignore[attr-defined]


def fault(result: Result) -> str:
    """Return the one line of an error, without a secret."""
    assert "hush" not in result.output
    return one_line(result)


def test_a_value_is_set_and_set_again(call: Call, gateway_url: str) -> None:
    """From standard input, whose last line has an end or none; the host in any case."""
    result = call("set", "founder", "slack", "Files.Slack.com", said="Bearer hush\n")
    assert (result.exit_code, result.stdout) == (0, "stored for founder slack files.slack.com\n")
    assert stored(gateway_url) == ("Authorization", HeaderSecret("Bearer hush"))
    assert call("set", *FOR, "--header", "X-Api-Key", said="hush").exit_code == 0
    assert stored(gateway_url) == ("X-Api-Key", HeaderSecret("hush"))


def test_a_subscriber_that_is_not_known_is_warned_of(call: Call, gateway_url: str) -> None:
    """It may be a slip of the pen."""
    assert (
        call("set", *FOR, said="hush").stderr
        == "Warning: there is no subscriber founder yet: `sovren-edge subscriber add`\n"
    )
    add = "INSERT INTO subscribers (subscriber_id) VALUES ('founder')"
    asyncio.run(with_database(gateway_url, lambda database: database.execute(add)))
    assert call("set", *FOR, said="hush").stderr == ""


@pytest.mark.parametrize(
    ("given", "secrets"),
    [
        ({"client_secret": "hush", "refresh_token": "more"}, ("hush", "more")),
        ({"client_secret": "hush", "refresh_token": ""}, ("hush", "")),
        ({"refresh_token": "more"}, ("", "more")),
    ],
)
def test_oauth_is_set(call: Call, gateway_url: str, given: dict[str, str], secrets: tuple[str, str]) -> None:
    """From a JSON object of what a client has."""
    assert call("set", *FOR, *OAUTH, "--client-auth", "body", "--scope", "a b", said=json.dumps(given)).exit_code == 0
    expected = OAuthSecret(
        "https://login.slack.com/token", "us", secrets[0], client_auth="body", scope="a b", refresh_token=secrets[1]
    )
    assert stored(gateway_url) == ("Authorization", expected)


@pytest.mark.parametrize(
    ("words", "said", "why"),
    [
        (("founder", "slack", "slack.org"), "hush", "slack.org is not on the list"),
        (("founder", "slack", "api.zoom.us"), "hush", "belongs to the service zoom"),
        (("founder", "skype", "slack.com"), "hush", "The services of this gateway are: slack, zoom."),
        (("founder", "slack", "slack.com/x"), "hush", "not the name of a host"),
        (("founder", "slack", "slack.com."), "hush", "not the name of a host"),
        (("founder", "slack", "x" * 64 + ".slack.com"), "hush", "not the name of a host"),
        (("no one", "slack", "slack.com"), "hush", "a subscriber is"),
        ((*FOR, "--header", "Host"), "hush", "no field that may be set"),
        ((*FOR, "--header", "X Y"), "hush", "no field that may be set"),
        (FOR, "", "printable ASCII"),
        (FOR, " hush", "printable ASCII"),
        (FOR, "hush\nhush", "printable ASCII"),
        (FOR, "hüsh", "printable ASCII"),
        (FOR, "hush" * 5000, "printable ASCII"),
        ((*FOR, "--token-url", "https://a.com"), "hush", "go with --oauth"),
        ((*FOR, "--oauth", "--client-id", "us"), "{}", "--oauth goes with"),
        ((*FOR, "--oauth", "--client-id", "us", "--token-url", "http://a.com"), "{}", "must begin with https://"),
        ((*FOR, *OAUTH), "hush", "a JSON object with nothing but client_secret and refresh_token"),
        ((*FOR, *OAUTH), '{"secret": "hush"}', "a JSON object with nothing but"),
        ((*FOR, *OAUTH), '{"client_secret": 5}', "client_secret must be 1 to"),
        ((*FOR, *OAUTH), '{"client_secret": "", "refresh_token": ""}', "a client needs"),
    ],
)
def test_what_cannot_be_used_is_not_stored(call: Call, words: tuple[str, ...], said: str, why: str) -> None:
    """And is told in one line, without the secret."""
    assert why in fault(call("set", *words, said=said))
    assert json.loads(call("list", "--json").stdout) == []


def test_what_is_stored_is_listed(call: Call) -> None:
    """For all, or for one subscriber; never a secret."""
    call("set", *FOR, said="Bearer hush")
    call("set", "other", "zoom", "api.zoom.us", *OAUTH, said='{"client_secret": "hush"}')
    rows = json.loads(call("list", "--json").stdout)
    assert all(row.pop("updated_at").endswith("+00:00") for row in rows)
    assert rows == [
        {"subscriber": "founder", "service": "slack", "host": "files.slack.com", "kind": "header",
         "header": "Authorization", "key": "one"},
        {"subscriber": "other", "service": "zoom", "host": "api.zoom.us", "kind": "oauth",
         "header": "Authorization", "key": "one"},
    ]  # fmt: skip
    assert len(json.loads(call("list", "other", "--json").stdout)) == 1
    table = call("list").stdout
    assert "files.slack.com" in table
    assert "hush" not in table


def test_what_is_stored_is_removed(call: Call, gateway_url: str) -> None:
    """Exactly that; what is not there is told."""
    call("set", *FOR, said="hush")
    assert "nothing is stored for founder slack slack.com" in fault(call("remove", "founder", "slack", "slack.com"))
    result = call("remove", "founder", "slack", "FILES.slack.com")
    assert (result.exit_code, result.stdout) == (0, "removed for founder slack files.slack.com\n")
    assert stored(gateway_url) is None


def test_keys_are_rotated(call: Call, gateway_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is sealed under the first; then the old one may go. When it was set has not changed."""
    for host in ("a.slack.com", "b.slack.com"):
        call("set", "founder", "slack", host, said="hush")
    before = json.loads(call("list", "--json").stdout)
    monkeypatch.setenv("KEYS", f"{TWO},{ONE}")
    for said in ("2 sealed again\n", "0 sealed again\n"):
        result = call("rotate")
        assert (result.exit_code, result.stdout) == (0, said)
    assert json.loads(call("list", "--json").stdout) == [{**row, "key": "two"} for row in before]
    for host in ("a.slack.com", "b.slack.com"):
        expected = ("Authorization", HeaderSecret("hush"))
        assert stored(gateway_url, TWO, Purpose("founder", "slack", host)) == expected


def test_what_does_not_open_is_told_and_holds_up_nothing(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its key has gone too soon."""
    call("set", *FOR, said="hush")
    monkeypatch.setenv("KEYS", f"{TWO},{ONE.replace('one', 'other')}")
    call("set", "founder", "slack", "slack.com", said="hush")
    monkeypatch.setenv("KEYS", f"{ONE.replace('one', 'other')},{TWO}")
    result = call("rotate")
    assert (result.exit_code, result.stdout) == (1, "1 sealed again\n")
    assert result.stderr == (
        "Error: founder slack files.slack.com: The stored credential cannot be read: "
        "it was sealed under the key 'one', which is not configured.\n"
    )


@pytest.mark.parametrize("freed", [True, False])
async def test_a_row_in_use_is_waited_for(database: Database, monkeypatch: pytest.MonkeyPatch, *, freed: bool) -> None:
    """For a while: whoever refreshes it writes the last word."""
    old, new = (
        CredentialStore(lambda: Sealer(read_keys(ONE))),
        CredentialStore(lambda: Sealer(read_keys(f"{TWO},{ONE}"))),
    )
    await old.put(database, FOR, "Authorization", HeaderSecret("hush"))
    monkeypatch.setattr("sovren_edge.gateway.credentials.rotation.POLL_S", 0.01)
    monkeypatch.setattr("sovren_edge.gateway.credentials.rotation.WAIT_S", 30.0 if freed else 0.05)
    async with database.transaction() as connection:
        assert await old.lock(connection, FOR) is not None
        rotating = asyncio.create_task(rotate(database, new))
        if not freed:
            done = await rotating
            assert (done.sealed, done.busy) == (0, [FOR])
            return
        await asyncio.wait({rotating}, timeout=0.1)
        await old.put(connection, FOR, "Authorization", HeaderSecret("refreshed"))
    done = await rotating
    assert (done.sealed, done.busy) == (1, [])
    found = await new.read(database, FOR)
    assert found is not None
    assert CredentialStore(lambda: Sealer(read_keys(TWO))).open(found) == HeaderSecret("refreshed")


async def test_a_database_that_is_away_ends_a_rotation(gateway_url: str, database: Database) -> None:
    """It is no fault of a row."""
    await CredentialStore(lambda: Sealer(read_keys(ONE))).put(database, FOR, "Authorization", HeaderSecret("hush"))
    settings = SETTINGS.model_copy(update={"timeout_s": 0.2})
    async with database.transaction() as connection, open_database(gateway_url, settings) as hasty:
        await connection.execute("LOCK TABLE credentials IN EXCLUSIVE MODE")
        with pytest.raises(EdgeError, match="away or too busy"):
            await rotate(hasty, CredentialStore(lambda: Sealer(read_keys(f"{TWO},{ONE}"))))


@pytest.mark.parametrize(
    ("change", "words", "why"),
    [
        (('credential_keys = "env:KEYS"', ""), ("set", *FOR), "gateway.credential_keys names no keys"),
        (('credential_keys = "env:KEYS"', ""), ("rotate",), "gateway.credential_keys names no keys"),
        (('url = "env:DATABASE_URL"', ""), ("list",), "database.url names no database"),
        (("[database]", '[database]\nschema = "empty"'), ("list",), "run `sovren-edge migrate`"),
    ],
)
def test_what_is_missing_is_told(call: Call, change: tuple[str, str], words: tuple[str, ...], why: str) -> None:
    """Keys, a database, its tables."""
    Path("config.toml").write_text(CONFIG.replace(*change), encoding="utf-8")
    assert why in fault(call(*words, said="hush"))


def test_a_database_that_is_away_is_told(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its address, which holds a password."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://hush:hush@127.0.0.1:1/x")
    assert "database is away" in fault(call("list"))


@pytest.mark.parametrize("keys", ["hush", "one:hush", f"{ONE},hush"])
def test_keys_of_no_form_are_a_fault(call: Call, monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    """That names their form, and not what they are."""
    monkeypatch.setenv("KEYS", keys)
    result = call("list")
    assert result.exit_code == 1
    assert "gateway.credential_keys" in result.stderr
    assert "name:BASE64" in result.stderr
    assert "hush" not in result.stderr


def test_local_has_a_key_and_a_database_of_its_own(call: Call, tmp_path: Path) -> None:
    """A key that is made once, and the PostgreSQL of the program that runs."""
    local = ("--local", "--state-dir", str(tmp_path / "state"))
    assert "start `sovren-edge serve --local` first" in fault(call("list", *local))

    async def use_it() -> None:
        async with run_postgres(tmp_path / "state", 5432) as postgres:
            await migrate(postgres.url, "sovren_edge", [HISTORY])
            assert (await asyncio.to_thread(call, "set", *FOR, *local, said="hush")).exit_code == 0
            async with open_database(postgres.url, SETTINGS) as database:
                keys = (tmp_path / "state" / "secrets" / "SOVREN_EDGE_CREDENTIAL_KEYS").read_text()
                store = CredentialStore(lambda: Sealer(read_keys(keys)))
                found = await store.read(database, FOR)
                assert found is not None
                assert store.open(found) == HeaderSecret("hush")

    asyncio.run(use_it())


@pytest.mark.parametrize(
    ("more", "typed", "secret"),
    [
        ((), {b"Authorization: ": b"Bearer hush"}, HeaderSecret("Bearer hush")),
        (OAUTH, {b"secret (empty: none): ": b"hush", b"n (empty: none): ": b""}, OAuthSecret(OAUTH[2], "us", "hush")),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("call")
def test_secrets_are_typed_without_an_echo(
    gateway_url: str, more: tuple[str, ...], typed: dict[bytes, bytes], secret: Secret
) -> None:
    """On a terminal somebody may look over a shoulder."""
    master, slave = pty.openpty()
    program = [Path(sys.executable).with_name("sovren-edge"), "credential", "set", *FOR, *more]
    with subprocess.Popen(program, stdin=slave, stdout=slave, stderr=slave, start_new_session=True) as process:
        shown = b""
        for prompt, line in typed.items():
            shown += read_until(master, prompt)
            os.write(master, line + b"\n")
        shown += read_until(master, b"yet")
        assert process.wait(20) == 0
    os.close(slave)
    os.close(master)
    assert b"stored for founder" in shown
    assert b"hush" not in shown
    assert stored(gateway_url) == ("Authorization", secret)


def read_until(terminal: int, end: bytes) -> bytes:
    """Read what a program shows, until these bytes."""
    shown = b""
    while end not in shown:
        readable, _, _ = select.select([terminal], [], [], 20)
        assert readable, shown
        shown += os.read(terminal, 1024)
    return shown
