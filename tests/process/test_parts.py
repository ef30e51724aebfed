"""Which worker is told what, and whether a running one can be told something else."""

from dataclasses import replace
from pathlib import Path

import pytest

from sovren_edge.config.load import load_config
from sovren_edge.config.model import Config
from sovren_edge.config.plan import make_plan
from sovren_edge.process.deaths import MOST, WITHIN_S, Deaths
from sovren_edge.process.parts import Part, Role, can_become, divide, doors_of
from sovren_edge.secret import SecretSource

SECRETS = {
    "SOVREN_EDGE_DATABASE_URL": "postgresql://user:pass-word@127.0.0.1/db",
    "SOVREN_EDGE_TOKEN_KEY": "token-key-of-no-use-anywhere-else-00",
    "SOVREN_EDGE_CREDENTIAL_KEYS": "one:" + "A" * 43 + "=",
    "REDIS": "redis://:red-is@127.0.0.1:1/0",
}
CONFIG = """
[edge]
bind = "127.0.0.1"
{edge}

[auth]
key = "env:SOVREN_EDGE_TOKEN_KEY"

[database]
url = "env:SOVREN_EDGE_DATABASE_URL"

[gateway]
processes = {processes}
redis = "env:REDIS"
credential_keys = "env:SOVREN_EDGE_CREDENTIAL_KEYS"

[pools.tts]
kind = "speech"
{pool}

[listeners.speech]
kind = "balance"
port = 8200
pool = "tts"
{speech}

[listeners.state]
kind = "status"
port = 8091
pool = "tts"

[listeners.all]
kind = "status"
port = 8097

[listeners.api-gateway]
kind = "gateway"
port = 8300
"""


def parts(
    tmp_path: Path, *, edge: str = "", pool: str = 'endpoints = ["127.0.0.1:1"]', processes: int = 1, speech: str = "",
    services: str = "",
) -> dict[str, Part]:  # fmt: skip
    """Return the parts of a configuration."""
    config = load(tmp_path, CONFIG.format(edge=edge, pool=pool, processes=processes, speech=speech) + services)
    return divide(make_plan(config), config, tmp_path, 0)


def load(tmp_path: Path, text: str) -> Config:
    """Read a configuration."""
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, secrets=SecretSource(SECRETS))


def test_each_port_has_its_worker(tmp_path: Path) -> None:
    """And a gateway may have several."""
    found = parts(tmp_path, processes=2)
    assert {name: [listener.name for listener in part.plan.listeners] for name, part in found.items()} == {
        "balance": ["speech", "state"],
        "gateway-1": ["api-gateway"],
        "gateway-2": ["api-gateway"],
        "operate": ["all"],
    }
    assert found["gateway-1"].role is Role.GATEWAY
    assert list(found["balance"].plan.pools) == ["tts"]
    assert not found["gateway-1"].plan.pools


@pytest.mark.parametrize(
    ("worker", "known"),
    [("balance", {"token-key"}), ("gateway", {"token-key", "pass-word", "red-is"}), ("operate", set())],
)
def test_a_worker_is_told_its_own_secrets_alone(tmp_path: Path, worker: str, known: set[str]) -> None:
    """The balancer knows callers by their tokens; only the gateway knows databases."""
    config = parts(tmp_path)[worker].config
    secrets = {
        "token-key": config.auth.key,
        "pass-word": config.database.url,
        "red-is": config.gateway.redis,
    }
    assert {name for name, secret in secrets.items() if secret is not None} == known
    assert (config.gateway.credential_keys is not None) == (worker == "gateway")


def test_a_workers_process_is_run_as_it_is_set(tmp_path: Path) -> None:
    """Each by itself."""
    found = parts(tmp_path, edge="workers = { balance = { cpus = [0], nice = 3 } }")
    assert (found["balance"].settings.cpus, found["balance"].settings.nice) == ((0,), 3)
    assert (found["gateway"].settings.cpus, found["gateway"].settings.nice) == ((), 0)


TWO = 'endpoints = ["127.0.0.1:1", "127.0.0.1:2"]'


@pytest.mark.parametrize(
    ("changed", "in_place"),
    [
        ({}, True),
        ({"pool": TWO}, True),
        ({"pool": 'endpoints = ["127.0.0.1:1"]\nslots = 3\nqueue = { limit = 7 }'}, True),
        ({"speech": 'allow = ["127.0.0.0/8"]'}, True),
        ({"edge": "drain_s = 3.0\nunready_s = 1.0\nbacklog = 9"}, True),
        ({"pool": 'endpoints = ["127.0.0.1:1"]\ninterchangeable = true'}, False),
        ({"pool": 'dns = { name = "tts.example", port = 1 }'}, False),
        ({"edge": "connections = 9"}, False),
        ({"edge": "workers = { balance = { nice = 3 } }"}, False),
    ],
)
def test_what_can_change_in_place(tmp_path: Path, changed: dict[str, str], *, in_place: bool) -> None:
    """What is kept with a process, and what a pool is made with, cannot."""
    assert can_become(parts(tmp_path)["balance"], parts(tmp_path, **changed)["balance"]) is in_place


def test_what_others_are_told_is_no_change(tmp_path: Path) -> None:
    """A worker's part is the same as long as what it serves is."""
    assert parts(tmp_path)["operate"] == parts(tmp_path, pool=TWO)["operate"]
    one = parts(tmp_path)["gateway"]
    assert one == parts(tmp_path, pool=TWO)["gateway"]
    assert not can_become(one, replace(one, database_url="postgresql://elsewhere"))


CHAT = '[services]\nchat = "http://127.0.0.1:9"\n'


def test_a_service_has_a_door_wherever_it_is(tmp_path: Path) -> None:
    """Here, or where the configuration says."""
    config = load(tmp_path, CONFIG.format(edge="", pool='endpoints = ["127.0.0.1:1"]', processes=1, speech="") + CHAT)
    doors = doors_of(make_plan(config, port_offset=1), config)
    assert (doors["speech"], doors["chat"]) == ("http://127.0.0.1:8201", "http://127.0.0.1:9")


def test_where_services_are_concerns_handlers_alone(tmp_path: Path) -> None:
    """Theirs begin anew, since they may have kept what they once asked for."""
    before, after = parts(tmp_path), parts(tmp_path, services=CHAT)
    assert before == after
    handlers = replace(before["operate"], role=Role.HANDLERS)
    moved = replace(handlers, plan=replace(handlers.plan, services={"chat": "http://127.0.0.1:9"}))
    assert can_become(handlers, handlers)
    assert not can_become(handlers, moved)


def test_who_dies_seldom_begins_anew_soon() -> None:
    """Each time a little later, as long as deaths follow each other."""
    deaths = Deaths()
    assert [deaths.next_delay(at) for at in (0.0, 1.0, 2.0, 3.0)] == [0.05, 0.2, 0.8, 2.0]
    assert deaths.next_delay(3.0 + WITHIN_S) == 0.05


def test_who_dies_too_often_stays_away_until_it_is_forgiven() -> None:
    """By a reload."""
    deaths = Deaths()
    assert [deaths.next_delay(at * WITHIN_S / MOST) is None for at in range(MOST)] == [False] * (MOST - 1) + [True]
    deaths.forgive()
    assert deaths.next_delay(WITHIN_S) == 0.05
