"""The commands that tell where the gateway may call."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.gateway.hostile_urls import HOSTILE
from tests.name_server import Names, name_server

SHIPPED = Path(__file__).parents[2] / "config.toml"
REHEARSAL = """
[gateway]
redis = "env:NOT_SET_FOR_WHO_ONLY_ASKS"

[gateway.services.slack]
hosts = ["slack.com"]

[gateway.services.trial]
hosts = ["example.com"]
mode = "report"

[gateway.rehearsal]
dns = "{dns}"
networks = ["127.0.0.0/8"]
"""


def egress(*arguments: str | Path, said: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command as a user does."""
    program = [Path(sys.executable).with_name("sovren-edge"), "egress", *arguments]
    return subprocess.run(program, input=said, capture_output=True, check=False, timeout=60)


def test_urls_of_standard_input_are_judged_a_line_each() -> None:
    """By the policy alone, as the table of hostile ones says."""
    hostile = [(url, reason) for reason, urls in HOSTILE.items() for url in urls if "\n" not in url]
    lines = "\n".join(url for url, _ in hostile).encode("utf-8", "surrogatepass")
    ended = egress("explain", "-", "--service", "salesforce", "--json", "--no-resolve", "--config", SHIPPED, said=lines)
    assert ended.returncode == 0, ended.stderr
    verdicts = [json.loads(line) for line in ended.stdout.splitlines()]
    assert not any(verdict["allowed"] for verdict in verdicts)
    assert [verdict["reason"] for verdict in verdicts] == [reason for _, reason in hostile]


@pytest.mark.parametrize(
    ("url", "service", "code", "said"),
    [
        ("https://slack.com/api/x", "slack", 0, "allowed"),
        ("https://slack.com/api/x", "zoom", 1, "service_host_mismatch"),
        ("https://slack.com/api/x", "nobody", 1, "unknown_service"),
        ("http://slack.com", "slack", 1, "scheme_not_allowed"),
    ],
)
def test_one_url_is_explained(url: str, service: str, code: int, said: str) -> None:
    """In a line for people, and a status for scripts."""
    ended = egress("explain", url, "--service", service, "--no-resolve", "--config", SHIPPED)
    assert ended.returncode == code
    assert said in ended.stdout.decode()


@pytest.fixture
async def names() -> AsyncIterator[Names]:
    """Serve names on a free port."""
    async with name_server() as server:
        yield server


async def test_addresses_are_looked_up(names: Names, tmp_path: Path) -> None:
    """And refused if they are not public; a rule on trial is told as such."""
    names.records = {
        ("slack.com", "A"): ["127.0.0.1"], ("in.slack.com", "A"): ["10.0.0.1"], ("elsewhere.org", "A"): ["1.1.1.1"],
    }  # fmt: skip
    config = tmp_path / "config.toml"
    config.write_text(REHEARSAL.format(dns=names.server), encoding="utf-8")

    async def ask(url: str, service: str) -> dict[str, object]:
        arguments = ("explain", url, "--service", service, "--json", "--local", "--config", config)
        ended = await asyncio.to_thread(egress, *arguments)
        said: dict[str, object] = json.loads(ended.stdout)
        return said

    assert (await ask("https://slack.com/", "slack"))["addresses"] == ["127.0.0.1"]
    assert (await ask("https://in.slack.com/", "slack"))["reason"] == "destination_ip_prohibited"
    assert (await ask("https://none.slack.com/", "slack"))["reason"] == "dns_error"
    trial = await ask("https://elsewhere.org/", "trial")
    assert (trial["allowed"], trial["would_deny"], trial["reason"]) == (True, True, "host_not_allowed")


def test_a_rehearsal_is_for_tests_alone(tmp_path: Path) -> None:
    """Without --local it is a fault."""
    config = tmp_path / "config.toml"
    config.write_text(REHEARSAL.format(dns="127.0.0.1:53"), encoding="utf-8")
    ended = egress("explain", "https://slack.com", "--service", "slack", "--config", config)
    assert ended.returncode == 1
    assert b"gateway.rehearsal" in ended.stderr


def test_networks_are_printed_for_a_firewall() -> None:
    """All of them, also for programs."""
    rows = json.loads(egress("networks", "--json").stdout)
    assert {"network": "10.0.0.0/8", "name": "private"} in rows
    assert all(ip_network(row["network"]) for row in rows)
    assert b"169.254.0.0/16" in egress("networks").stdout
