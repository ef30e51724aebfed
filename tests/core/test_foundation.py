"""What every room stands on: errors, secrets, trust by address, a listener's own pages, deadlines."""

from ipaddress import ip_network
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from sovren_edge.auth.networks import Networks
from sovren_edge.errors import EdgeError, Problem, Side
from sovren_edge.listener import OwnPages
from sovren_edge.relay.deadlines import NEVER, Deadlines
from sovren_edge.secret import Secret, SecretSource, make_text
from sovren_edge.store.settings import DatabaseSettings


def test_a_problem_has_every_member_that_clients_read() -> None:
    """RFC 9457, and the older names as strings; the status as a number."""
    error = EdgeError(503, "queue_full", "The queue is full.", retry_after_s=2)
    body = orjson.loads(error.problem.body("id-1"))
    assert body == {
        "type": "urn:sovren-edge:problem:queue_full",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "The queue is full.",
        "reason": "queue_full",
        "error": "The queue is full.",
        "message": "The queue is full.",
        "statusCode": 503,
        "request_id": "id-1",
    }
    assert ("Retry-After", "2") in error.problem.headers
    assert "request_id" not in orjson.loads(Problem(400, "x", "y", Side.CALLER).body())


class Settings(BaseModel):
    """Settings with a secret."""

    key: Secret


def test_secrets_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    """And are printed as stars."""
    file = tmp_path / "key"
    file.write_text("from-file\n", encoding="utf-8")
    source = SecretSource({"KEY": "from-env"})
    for reference, value in (("env:KEY", "from-env"), (f"file:{file}", "from-file")):
        settings = Settings.model_validate({"key": reference}, context={"secrets": source})
        assert settings.key.get_secret_value() == value
        assert value not in repr(settings)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("env:MISSING", "MISSING"),
        ("file:/nowhere", "/nowhere"),
        ("plain-password", "env:NAME or file:PATH"),
        ("env:", "env:NAME"),
    ],
)
def test_faults_of_secrets_name_what_is_missing(reference: str, said: str) -> None:
    """But never a value."""
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"key": reference}, context={"secrets": SecretSource({})})
    message = caught.value.errors()[0]["msg"]
    assert said in message
    assert "plain-password" not in message


def test_missing_secrets_are_made_once(tmp_path: Path) -> None:
    """For their owner alone, where that is allowed."""
    source = SecretSource({}, made_in=tmp_path / "secrets")
    made = source.read("env:KEY", make_text)
    assert len(made) >= 32
    assert source.read("env:KEY", make_text) == made
    assert (tmp_path / "secrets" / "KEY").stat().st_mode & 0o777 == 0o600


def test_networks_know_addresses_of_both_families() -> None:
    """IPv4 within IPv6 is IPv4; what is no address is nobody's."""
    networks = Networks([ip_network("10.0.0.0/8"), ip_network("fc00::/7")])
    assert networks.contains("10.1.2.3")
    assert networks.contains("::ffff:10.1.2.3")
    assert networks.contains("fd00::1")
    assert not networks.contains("11.0.0.1")
    assert not networks.contains("no address")


def pages(*, ready: bool, alone: bool = False) -> OwnPages:
    """Make a listener's pages; 10.0.0.0/8 is trusted."""
    return OwnPages(
        health=b'{"status":"ok"}',
        checks={"database": lambda: ready, "cache": lambda: True},
        sources=lambda: (),
        trusted=Networks([ip_network("10.0.0.0/8")]),
        status=(lambda: {"pools": []}) if alone else None,
        alone=alone,
    )


def test_health_and_readiness() -> None:
    """Health is liveness; readiness has its detail for trusted addresses alone."""
    for ready in (True, False):
        own = pages(ready=ready)
        health = own.answer("GET", "/health", "1.2.3.4")
        assert health is not None
        assert (health.status, health.body) == (200, b'{"status":"ok"}')
        stranger, friend = own.answer("GET", "/ready", "1.2.3.4"), own.answer("GET", "/ready", "10.0.0.1")
        assert stranger is not None
        assert friend is not None
        assert stranger.status == friend.status == (200 if ready else 503)
        assert b"database" not in stranger.body
        assert orjson.loads(friend.body)["checks"]["database"] == ("ready" if ready else "not ready")


@pytest.mark.parametrize(
    ("method", "path", "peer", "status"),
    [
        ("GET", "/metrics", "1.2.3.4", 403),
        ("HEAD", "/metrics", "10.0.0.1", 200),
        ("POST", "/health", "10.0.0.1", 405),
        ("GET", "/status", "10.0.0.1", 200),
        ("GET", "/status", "1.2.3.4", 403),
        ("GET", "/other", "10.0.0.1", 404),
    ],
)
def test_pages_of_a_port_that_has_nothing_else(method: str, path: str, peer: str, status: int) -> None:
    """Each with its refusals."""
    answer = pages(ready=True, alone=True).answer(method, path, peer)
    assert answer is not None
    assert answer.status == status


def test_other_paths_are_not_ours() -> None:
    """On a port that forwards, `/status` is the endpoint's."""
    own = pages(ready=True)
    assert own.answer("GET", "/status", "10.0.0.1") is None
    assert own.answer("GET", "/health/", "10.0.0.1") is None


class Thing:
    """Something that waits."""

    def __init__(self) -> None:
        self.deadline = self.looked_at = NEVER
        self.bucket = 0
        self.expired_at: list[float] = []
        self.now = 0.0

    def expire(self) -> None:
        """Note when."""
        self.expired_at.append(self.now)


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 3) | st.just(NEVER), st.floats(0, 0.5)), max_size=60))
def test_deadlines_expire_once_and_in_time(steps: list[tuple[int, float, float]]) -> None:
    """Never before they are over, and at the latest two steps of the sweep afterwards."""
    now, things = 100.0, [Thing() for _ in range(5)]
    deadlines, due = Deadlines(now), dict.fromkeys(range(5), NEVER)
    for index, wait_s, pause_s in steps:
        things[index].deadline = now + wait_s
        if things[index].deadline < things[index].looked_at:
            deadlines.bring_forward(things[index])
        due[index] = now + wait_s
        until = now + pause_s
        while now < until:
            now += 0.05
            for thing in things:
                thing.now = now
                thing.expired_at.clear()
            deadlines.sweep(now)
            for number, thing in enumerate(things):
                if thing.expired_at:
                    assert due[number] <= now < due[number] + 0.16
                    due[number] = NEVER
                else:
                    assert due[number] > now - 0.11
    for thing in things:
        deadlines.forget(thing)
        thing.expired_at.clear()
    deadlines.sweep(now + 100)
    assert not any(thing.expired_at for thing in things)


@pytest.mark.parametrize("secret", ["hunter2 nonsense", "mysql://u:hunter2@h/d"])
def test_a_database_url_of_another_form_is_a_fault(secret: str) -> None:
    """It is not taken for a database that is away, and it is not shown."""
    with pytest.raises(ValidationError) as caught:
        DatabaseSettings.model_validate({"url": "env:URL"}, context={"secrets": SecretSource({"URL": secret})})
    message = caught.value.errors()[0]["msg"]
    assert "postgresql://" in message
    assert "hunter2" not in message
