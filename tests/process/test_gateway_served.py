"""The gateway as its operators see it: the program, its commands, its pages."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from program import Program, run, serve

CONFIG = """
[gateway.services.example]
hosts = ["example.com"]

[listeners.api-gateway]
kind = "gateway"
port = 8300
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Run the program with a gateway and its database."""
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    with serve(folder / "state", "--local", "--config", str(folder / "config.toml")) as program:
        yield program


def told(gateway: Program, *words: str) -> str:
    """Return what a command prints about that program."""
    local = () if words[0] == "token" else ("--local",)
    config = () if words[0] == "ledger" else ("--config", gateway.state_dir.parent / "config.toml")
    ended = run(*words, *local, *config, "--state-dir", gateway.state_dir)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return ended.stdout


async def ask(gateway: Program, path: str, method: str = "GET", token: str = "") -> tuple[int, str]:
    """Return status and body."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"http://127.0.0.1:{8300 + gateway.offset}{path}"
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_a_subscriber_who_is_added_may_call(gateway: Program) -> None:
    """While the program runs."""
    assert told(gateway, "subscriber", "add", "ann", "--hourly-limit", "5") == "added ann: 5 requests an hour\n"
    token = told(gateway, "token", "--subject", "ann").splitlines()[-1]
    status, body = await ask(gateway, "/proxy/ann/example?url=https://evil.example/", "POST", token)
    assert (status, json.loads(body)["reason"]) == (403, "host_not_allowed")


def test_its_journal_is_told_of(gateway: Program) -> None:
    """It is in use, and there is nothing to repair."""
    (journal,) = json.loads(told(gateway, "ledger", "status", "--json"))
    assert Path(journal["path"]).parent == gateway.state_dir / "gateway"
    assert (journal["in_use"], journal["bad"], journal["used_bytes"]) == (True, False, 0)
    assert journal["owner"].startswith("api-gateway@")
    assert told(gateway, "ledger", "repair") == "nothing to repair: no journal is bad\n"


async def test_it_is_ready_by_what_it_needs(gateway: Program) -> None:
    """That is no database: rows can wait in the journal."""
    status, body = await ask(gateway, "/ready")
    assert status in {200, 503}
    assert set(json.loads(body)["checks"]) == {"limiter", "ledger"}


async def test_its_state_can_be_scraped(gateway: Program) -> None:
    """On its own port, each series with its listener."""
    _, body = await ask(gateway, "/metrics")
    shown = dict(re.findall(r'^(gateway_[a-z_]+)\{listener="api-gateway"\} (\S+)$', body, re.MULTILINE))
    assert shown["gateway_journal_closed"] == "0"
    assert shown["gateway_refresh_failures_total"] == "0"
