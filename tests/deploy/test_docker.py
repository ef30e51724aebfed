"""deploy/docker, without a daemon: what its files say is held against the program and the checkout."""

import re
import shlex
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import orjson
import pytest
from dockerfile_parse import DockerfileParser
from program import ROOT, run
from ruamel.yaml import YAML

from sovren_edge.config.load import load_config

DOCKER = ROOT / "deploy/docker"
NODES = ["g367", "g374"]
KNOWN = {
    "g367": {
        "sovren-api-gateway": ["api-gateway"],
        "sovren-executives": ["executives"],
        "sovren-subscribers": ["subscribers"],
        "sovren-multichannel": ["multichannel"],
        "sovren-voice-intelligence": ["voice-intelligence"],
        "sovren-audit-portal": ["audit-portal"],
        "sovren-voice-onboarding": ["voice-onboarding"],
        "sovren-predictive-engine": ["predictive-engine"],
        "sovren-monitoring-suite": ["monitoring-suite", "monitoring-suite-2"],
        "sovren-websocket-server": ["websocket-server", "websocket-server-2"],
        "sovren-voice-service": ["voice-service"],
    },
    "g374": {"sovren-gateway": ["telephony-gateway"]},
}


def compose(node: str) -> dict[str, Any]:
    """Read a node's file."""
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(DOCKER / f"compose.{node}.yml")
    return found


def edge(node: str) -> dict[str, Any]:
    """Return the one service."""
    (service,) = compose(node)["services"].values()
    return dict(service)


def port_map(node: str) -> dict[str, dict[str, Any]]:
    """Return what the program says about a node's listeners, by their names."""
    rows = orjson.loads(run("ports", "--node", node, "--json").stdout)
    return {row["name"]: row for row in rows if row["node"] == node}


def test_compose_files_are_valid() -> None:
    """By the specification's schema."""
    judge = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*judge, *DOCKER.glob("compose.*.yml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert {path.name for path in DOCKER.glob("compose.*.yml")} == {f"compose.{node}.yml" for node in NODES}


@pytest.mark.parametrize("node", NODES)
def test_known_containers_are_named_with_their_ports(node: str) -> None:
    """As the port map has them: whose port the edge opens, that container must be gone."""
    rows = port_map(node)
    assert compose(node)["x-known-containers"] == {
        container: {"ports": [rows[name]["port"] for name in names], "state": rows[names[0]]["state"]}
        for container, names in KNOWN[node].items()
    }


@pytest.mark.parametrize("node", NODES)
def test_a_node_serves_its_ports_and_is_asked_for_them(node: str) -> None:
    """Docker's health check is the program's own command, and asks every port that the node opens."""
    service = edge(node)
    assert service["command"] == ["serve", "--node", node]
    kind, program, *arguments = service["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "sovren-edge")
    asked = run(*arguments, "--json").stdout
    ours = {row["port"] for row in port_map(node).values() if row["state"] == "serve"}
    assert {finding["port"] for finding in orjson.loads(asked)} == ours


@pytest.mark.parametrize("node", NODES)
def test_a_container_has_no_more_than_it_needs(node: str) -> None:
    """It can write to its state and to /tmp, has no capability, and gets none."""
    service = edge(node)
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["network_mode"] == "host"
    assert service["container_name"] == "sovren-edge"
    assert not {"privileged", "cap_add", "pid", "ports"} & service.keys()
    writable = [volume for volume in service["volumes"] if not isinstance(volume, dict) or not volume["read_only"]]
    assert writable == ["state:/var/lib/sovren-edge"]
    assert [folder.split(":")[0] for folder in service["tmpfs"]] == ["/tmp"]  # noqa: S108 - the container's


@pytest.mark.parametrize("node", NODES)
def test_docker_waits_longer_than_the_drain(node: str) -> None:
    """By ten seconds or more: what is cut is then counted and logged."""
    settings = load_config(ROOT / "config.toml", secrets=None, local=False).edge
    seconds = int(edge(node)["stop_grace_period"].removesuffix("s"))
    assert seconds >= settings.unready_s + settings.drain_s + 10


def test_secrets_are_those_that_the_configuration_names() -> None:
    """Only the node with the gateway has any, in a file that is never committed."""
    assert edge("g367")["env_file"] == ["g367.env"]
    assert "env_file" not in edge("g374")
    ignored = subprocess.run(["git", "check-ignore", "-q", DOCKER / "g367.env"], cwd=ROOT, check=False)  # noqa: S607
    assert ignored.returncode == 0
    example = (DOCKER / "g367.env.example").read_text(encoding="utf-8")
    named = {line.split("=")[0] for line in example.splitlines() if line and not line.startswith("#")}
    # What is missing is told with the variables' names.
    told = run("check", "--node", "g367", env=dict.fromkeys(named, "")).stderr
    assert {*re.findall(r"SOVREN_EDGE_\w+", told)} == named
    assert run("check", "--node", "g374").returncode == 0


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions."""
    path = DOCKER / "Dockerfile"
    parser = DockerfileParser(fileobj=path.open("rb"))
    found = [(step["instruction"], step["value"]) for step in parser.structure if step["instruction"] != "COMMENT"]
    parser.fileobj.close()
    return found


def in_context(path: str) -> bool:
    """Whether the build sees a file: the last pattern that fits decides, as Docker has it."""
    seen = True
    for pattern in (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").split():
        name = pattern.removeprefix("!").removeprefix("**/")
        if (
            fnmatch(path, name)
            or path.startswith(f"{name}/")
            or (pattern.startswith("**/") and name in path.split("/"))
        ):
            seen = pattern.startswith("!")
    return seen


def test_what_is_copied_is_there(steps: list[tuple[str, str]]) -> None:
    """In the checkout, and not ignored; what is not the program's is."""
    copied = [shlex.split(value) for instruction, value in steps if instruction == "COPY"]
    sources = [source for words in copied if not words[0].startswith("--") for source in words[:-1]]
    assert {"locks/", "handlers/", "pools/", "sovren_edge/", "config.toml"} <= {*sources}
    for source in sources:
        assert (ROOT / source).exists()
        assert in_context(source.rstrip("/"))
    assert not any(map(in_context, (".git", ".venv", ".state", "tests", "deploy/docker/g367.env", "pools/__pycache__")))


def test_dependencies_are_installed_as_everywhere(steps: list[tuple[str, str]]) -> None:
    """By the locks' hashes, from wheels alone, as the Makefile does."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = "\n".join(value for instruction, value in steps if instruction == "RUN")
    for lock in ("locks/run.txt", "locks/edge.txt"):
        assert f"install -q --only-binary :all: --require-hashes -r {lock}" in commands
    assert "$(PIP) install -q --only-binary :all: --require-hashes -r locks/run.txt" in makefile


def test_the_image_runs_as_nobody(steps: list[tuple[str, str]]) -> None:
    """The last stage installs nothing, and has neither pip nor a compiler."""
    last = max(index for index, (instruction, _) in enumerate(steps) if instruction == "FROM")
    assert all("slim" in value for instruction, value in steps if instruction == "FROM")
    final = dict(steps[last:])
    assert final["USER"] == "sovren-edge"
    assert "pip" not in final["RUN"]
    assert "apt-get" not in final["RUN"]
    assert orjson.loads(final["ENTRYPOINT"]) == ["sovren-edge"]
    health = final["HEALTHCHECK"].split("CMD ")[1].replace('"$SOVREN_EDGE_NODE"', "g374")
    assert shlex.split(health) == edge("g374")["healthcheck"]["test"][1:]


def test_the_wheel_has_the_whole_program(steps: list[tuple[str, str]], tmp_path: Path) -> None:
    """Built as the image's is: every file of the packages is in it."""
    (command,) = (value for instruction, value in steps if instruction == "RUN" and " wheel " in value)
    arguments = shlex.split(command.split(" && ")[0])
    assert arguments[0] == "/build/bin/python"
    arguments = [sys.executable, *arguments[1:-3], "-w", str(tmp_path), "."]
    subprocess.run(arguments, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    ours = ["git", "ls-files", "sovren_edge", "pools", "handlers"]
    listed = subprocess.run(ours, cwd=ROOT, capture_output=True, check=True)
    assert {*listed.stdout.decode().split()} <= {*zipfile.ZipFile(wheel).namelist()}
