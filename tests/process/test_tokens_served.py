"""Tokens, from the command that makes one to the handler that asks whom it names."""

from collections.abc import Iterator
from pathlib import Path

import aiohttp
import orjson
import pytest
from program import Program, run, serve

DOORMAN = '''
import contextlib
from sovren_edge.handler import EdgeError, Handler, Request, route


class Doorman(Handler):
    """Let everybody see what is theirs."""

    @contextlib.asynccontextmanager
    async def open(self, edge):
        async def room(subscriber: str, request: Request) -> dict[str, str]:
            caller = await edge.authenticate(request)
            if not caller.may_act_for(subscriber):
                raise EdgeError(403, "subscriber_mismatch", "This is somebody else's.")
            return {"caller": caller.subject}

        yield [route.get("/rooms/{subscriber}", room)]
'''
CONFIG = '[listeners.doorman]\nkind = "handler"\nport = 8600\nhandler = "doorman"\n'


@pytest.fixture(scope="module")
def doorman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Run the program with a handler that knows its callers."""
    folder = tmp_path_factory.mktemp("doorman")
    info = folder / "site" / "doorman-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "site" / "doorman_handler.py").write_text(DOORMAN, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: doorman\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[sovren_edge.handlers]\ndoorman = doorman_handler:Doorman\n")
    config = folder / "config.toml"
    config.write_text(CONFIG, encoding="utf-8")
    env = {"PYTHONPATH": str(folder / "site")}
    with serve(folder / "state", "--local", "--config", str(config), env=env) as program:
        yield program


def made(doorman: Program, *arguments: str) -> str:
    """Make a token as an operator does."""
    config = doorman.state_dir.parent / "config.toml"
    ended = run("token", *arguments, "--config", config, "--state-dir", doorman.state_dir)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()[-1]


async def ask(doorman: Program, path: str, token: str | None) -> tuple[int, dict[str, object], str]:
    """Return status, body and what authentication is asked for."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    url = f"http://127.0.0.1:{8600 + doorman.offset}{path}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, orjson.loads(await answer.read()), answer.headers.get("WWW-Authenticate", "")


async def test_who_has_a_token_is_known(doorman: Program) -> None:
    """By its subject, and an operator everywhere."""
    ada = made(doorman, "--subject", "ada")
    assert await ask(doorman, "/rooms/ada", ada) == (200, {"caller": "ada"}, "")
    assert (await ask(doorman, "/rooms/bob", ada))[0] == 403
    operator = made(doorman, "--subject", "root", "--scope", "operator", "--ttl", "60")
    assert await ask(doorman, "/rooms/bob", operator) == (200, {"caller": "root"}, "")
    assert ada not in doorman.text


async def test_who_has_none_is_told_so(doorman: Program) -> None:
    """In the one form of all errors, with the scheme that is asked for."""
    for token, reason in ((None, "token_missing"), ("nonsense", "token_malformed")):
        status, body, scheme = await ask(doorman, "/rooms/ada", token)
        assert (status, body["reason"], scheme) == (401, reason, "Bearer")


def test_the_configurations_key_signs_where_there_is_one(tmp_path: Path) -> None:
    """Unless it stands for somebody else's private key; a fault of it is told."""
    config = tmp_path / "config.toml"
    config.write_text('[auth]\nkey = "env:EDGE_KEY"\n', encoding="utf-8")
    one = run("token", "--subject", "ada", "--config", config, env={"EDGE_KEY": "x" * 32})
    assert one.returncode == 0
    assert one.stdout.count(".") == 2
    assert "at least 32 bytes" in run("token", "--subject", "a", "--config", config, env={"EDGE_KEY": "short"}).stderr
    assert "auth.key" in run("token", "--subject", "ada", "--config", config).stderr
    config.write_text('[auth]\nalgorithm = "RS256"\njwks_url = "https://id.example/keys"\n', encoding="utf-8")
    assert "private key" in run("token", "--subject", "ada", "--config", config).stderr
