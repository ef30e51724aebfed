"""The shipped file makes exactly the map that clients of this backend know."""

import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from sovren_edge.config.fault import ConfigurationError
from sovren_edge.config.load import load_config
from sovren_edge.config.model import PRIVATE, Config, EdgeSettings
from sovren_edge.config.plan import Plan, make_plan
from sovren_edge.config.resolved import PlannedEngine
from sovren_edge.config.scope import State
from sovren_edge.observe.settings import LogSettings
from sovren_edge.relay.settings import RelaySettings
from sovren_edge.secret import SecretSource
from sovren_edge.store.settings import DatabaseSettings

SHIPPED = Path(__file__).parents[2] / "config.toml"

# port, node, kind, service in the body of /health, whether it is opened
MAP = [
    (8090, "g367", "balance", "tts-tier1", True),
    (8091, "g367", "status", "tts-tier1-health", True),
    (8200, "g367", "balance", "tts-master", True),
    (8201, "g367", "balance", "tts-master", True),
    (8202, "g367", "balance", "tts-master", True),
    (8000, "g374", "balance", "voila", True),
    (8097, "g367", "status", "monitoring-metrics", True),
    (8300, "g367", "gateway", "api-gateway", True),
    (8250, "g367", "handler", "executives", True),
    (8350, "g374", "handler", "", False),
    (8400, "g367", "handler", "subscribers", False),
    (8450, "g367", "handler", "multichannel", False),
    (8083, "g367", "handler", "voice-intelligence", False),
    (8084, "g367", "handler", "audit-portal", False),
    (8085, "g367", "handler", "voice-onboarding", False),
    (8086, "g367", "handler", "predictive-engine", False),
    (8087, "g367", "handler", "monitoring-suite", False),
    (8088, "g367", "handler", "monitoring-suite", False),
    (8095, "g367", "handler", "websocket-server", False),
    (8096, "g367", "handler", "websocket-server", False),
    (8500, "g367", "handler", "voice-service", False),
]

# port, node, pool
UPSTREAMS = [
    *((port, "g367", "tts-tier1") for port in range(8100, 8105)),
    (8001, "g374", "voila-primary"),
    (8002, "g374", "voila-secondary"),
    (8003, "g374", "voila-tertiary"),
    (8000, "10.15.35.113", "csm"),
]


ENVIRONMENT = {
    "SOVREN_EDGE_DATABASE_URL": "postgresql://localhost/sovren",
    "SOVREN_EDGE_TOKEN_KEY": "x" * 32,
    "SOVREN_EDGE_CREDENTIAL_KEYS": f"one:{'A' * 43}=",
}


@pytest.fixture
def config() -> Config:
    """Return the shipped configuration, read with its secrets."""
    return load_config(SHIPPED, secrets=SecretSource(ENVIRONMENT))


def test_a_node_that_only_balances_needs_no_secret() -> None:
    """The telephony machine has neither the database's password nor the key of tokens."""
    bare = load_config(SHIPPED, secrets=SecretSource({}), node="g374")
    assert (bare.database.url, bare.auth.key, bare.gateway.credential_keys) == (None, None, None)
    with pytest.raises(ConfigurationError, match="SOVREN_EDGE_TOKEN_KEY is not set"):
        load_config(SHIPPED, secrets=SecretSource({}), node="g367")


def _ports(plan: Plan) -> set[int]:
    return {listener.port for listener in plan.listeners}


def test_the_map_is_complete(config: Config) -> None:
    """Every port, whose it is and what it answers with."""
    found = [
        (one.port, one.node, one.kind, name if one.service is None else one.service, not one.planned)
        for name, one in config.listeners.items()
    ]
    assert sorted(found, key=str) == sorted(MAP, key=str)


def test_health_bodies_are_exact(config: Config) -> None:
    """Byte for byte, without a space."""
    bodies = {listener.port: listener.health for listener in make_plan(config, local=True).listeners}
    assert bodies == {port: b'{"status":"ok","service":"%s"}' % name.encode() for port, _, _, name, ok in MAP if ok}


@pytest.mark.parametrize("node", ["g367", "g374"])
def test_each_node_opens_its_own_ports(config: Config, node: str) -> None:
    """Bound to all its addresses."""
    plan = make_plan(config, node)
    assert _ports(plan) == {port for port, owner, _, _, ok in MAP if ok and owner == node}
    assert {listener.bind for listener in plan.listeners} == {"0.0.0.0"}
    assert plan.engines == ()


def test_local_opens_all_and_leaves_loopback_alone(config: Config) -> None:
    """Five engines are run; everything on other machines is absent."""
    plan = make_plan(config, local=True)
    assert _ports(plan) == {port for port, _, _, _, ok in MAP if ok}
    assert {listener.bind for listener in plan.listeners} == {"127.0.0.1"}
    assert plan.engines == tuple(PlannedEngine(f"tts-tier1-{n:02d}", 8099 + n) for n in range(1, 6))
    assert all(one.host == "127.0.0.1" or one.absent for pool in plan.pools.values() for one in pool.endpoints)


def test_upstreams_are_on_the_map(config: Config) -> None:
    """With the machine on which they are."""
    rows = [row for row in make_plan(config, "g367").map if row.kind == "upstream"]
    assert sorted((row.port, row.node, row.target) for row in rows) == sorted(UPSTREAMS)
    assert {row.state for row in rows} == {State.EXTERNAL}


def test_the_chat_model_is_on_the_application_machine(config: Config) -> None:
    """With --local it is not contacted."""
    assert make_plan(config, "g367").services == {"chat": "http://10.15.38.1:8000"}
    assert make_plan(config, local=True).services == {}


def test_the_tiers_of_speech(config: Config) -> None:
    """The five instances first, then CSM; Voila in its order."""
    pools = make_plan(config, local=True).pools
    assert pools["tts-master"].tiers == ("tts-tier1", "csm")
    assert pools["voila"].tiers == ("voila-primary", "voila-secondary", "voila-tertiary")
    assert (pools["tts-tier1"].settings.slots, pools["tts-tier1"].settings.repeatable) == (2, True)


def test_listeners_admit_loopback_and_private_networks(config: Config) -> None:
    """As every port's default is."""
    assert {listener.allow for listener in config.listeners.values()} == {PRIVATE}


@pytest.mark.parametrize(
    ("table", "defaults"),
    [
        ("edge", EdgeSettings()),
        ("log", LogSettings()),
        ("relay", RelaySettings()),
        ("database", DatabaseSettings(url=SecretStr(ENVIRONMENT["SOVREN_EDGE_DATABASE_URL"]))),
    ],
)
def test_what_the_file_says_of_the_program_is_the_default(config: Config, table: str, defaults: BaseModel) -> None:
    """Its first lines promise so; and nothing is left out."""
    assert getattr(config, table) == defaults
    written = set(tomllib.loads(SHIPPED.read_text(encoding="utf-8"))[table])
    known = {field.alias or name for name, field in type(defaults).model_fields.items()}
    assert known - written <= {"url", "total_timeout_s"}


def test_every_setting_has_a_comment() -> None:
    """Outside of the listeners, whose keys are explained above them."""
    lines = SHIPPED.read_text(encoding="utf-8").split("[listeners.")[0].splitlines()
    uncommented = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if " = " in line and "#" not in line and not before.startswith("#")
    ]
    explained = {"kind", "endpoints", "hosts", "tiers", "slots", "repeatable"}
    assert {line.split(" = ")[0] for line in uncommented} <= explained
