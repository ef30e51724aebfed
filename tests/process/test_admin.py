"""The admin socket, as operators use it: `sovren-edge pool` beside a running program."""

import json
import os
import socket
import stat
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from program import Program, run, serve, until

CONFIG = """
[edge]
bind = "127.0.0.1"

[pools.speech]
kind = "speech"
endpoints = ["127.0.0.1:1"]
keep_bytes = 1000000

[pools.echo]
endpoints = ["127.0.0.1:{port}", "127.0.0.1:{port2}"]
slots = 2

[listeners.speech]
port = 9301
kind = "balance"
pool = "speech"
auth = "none"

[listeners.echo]
port = 9300
kind = "balance"
pool = "echo"
auth = "none"
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Run the program with a pool of two endpoints that accept connections and say nothing."""
    home = tmp_path_factory.mktemp("admin")
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        config = home / "config.toml"
        config.write_text(CONFIG.format(port=one.getsockname()[1], port2=two.getsockname()[1]))
        with serve(home / "state", "--config", str(config), ready="serving") as running:
            yield running


def command(program: Program, *arguments: str, fails: bool = False) -> str:
    """Run `sovren-edge pool`; return what it prints."""
    ended = run("pool", *arguments, "--state-dir", program.state_dir)
    assert (ended.returncode != 0) == fails, ended.stderr
    return ended.stderr if fails else ended.stdout


def endpoint(program: Program, name: str = "echo-01") -> dict[str, object]:
    """Return what the program says of an endpoint."""
    pools = json.loads(command(program, "list", "--json"))
    (found,) = [one for pool in pools for one in pool["endpoints"] if one["name"] == name]
    assert isinstance(found, dict)
    return found


def test_only_its_user_can_open_the_socket(program: Program) -> None:
    """Nobody else gives commands."""
    status = (program.state_dir / "admin.sock").stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600


def test_an_endpoint_is_drained_and_enabled(program: Program) -> None:
    """At once, and every command is in the log with the user that gave it."""
    assert endpoint(program)["enabled"] is True
    assert "drained" in command(program, "drain", "echo-01")
    assert endpoint(program)["enabled"] is False
    command(program, "enable", "echo-01")
    assert endpoint(program)["enabled"] is True
    lines = commands(program, "endpoint_changed")
    assert [(line["endpoint"], line["enabled"]) for line in lines[:2]] == [("echo-01", False), ("echo-01", True)]


def commands(program: Program, event: str) -> list[dict[str, object]]:
    """Return the log's lines of one event, each with the user that gave the command."""
    lines = [json.loads(line) for line in program.text.splitlines() if f'"event":"{event}"' in line]
    assert {line["uid"] for line in lines} <= {os.geteuid()}
    return lines


def test_every_command_is_one_line_in_the_log(program: Program) -> None:
    """Also one that only looks, or that makes no sense; with what was asked, and the user that asked."""

    def given() -> int:
        return program.text.count('"uid":')

    before = given()
    command(program, "list")
    command(program, "drain", "nobody", fails=True)
    command(program, "slots", "echo-01", "0", fails=True)
    run("kept", "list", "--state-dir", program.state_dir)
    run("kept", "clear", "--state-dir", program.state_dir)
    for asked in (b"DELETE /pools", b"GET /" + b"x" * 1000, b"PATCH /endpoints/echo-01"):
        told(program, asked + b" HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
    until(lambda: given() >= before + 8)
    assert given() == before + 8
    assert commands(program, "pools_shown")
    assert commands(program, "kept_answers_shown")
    assert commands(program, "kept_answers_forgotten")[-1]["answers"] == 0
    unknown, slots, *others = commands(program, "command_refused")[-5:]
    assert (unknown["command"], unknown["enabled"]) == ("PATCH /endpoints/nobody", False)
    assert (unknown["reason"], unknown["why"]) == ("unknown_endpoint", "No endpoint is named nobody.")
    assert (slots["command"], slots["reason"]) == ("PATCH /endpoints/echo-01", "invalid_change")
    assert "greater than or equal to 1" in str(slots["why"])
    assert [line["reason"] for line in others] == ["unknown_command", "unknown_command", "invalid_change"]
    assert max(len(str(line["command"])) for line in others) == 200


def told(program: Program, request: bytes) -> bytes:
    """Say something else than the command line would; return the answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(program.state_dir / "admin.sock"))
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_who_gave_a_command_and_left_is_known_as_well(program: Program) -> None:
    """Nobody changes an endpoint unseen by closing the connection at once."""
    before = len(commands(program, "endpoint_changed"))
    body = b'{"weight": 1.0}'
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(program.state_dir / "admin.sock"))
        head = b"PATCH /endpoints/echo-01 HTTP/1.1\r\nHost: admin\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection.sendall(head + body)
    until(lambda: len(commands(program, "endpoint_changed")) == before + 1)


def test_slots_and_weight_are_set(program: Program) -> None:
    """For one endpoint, and the others stay as they are."""
    command(program, "slots", "echo-02", "7")
    assert "2.5" in command(program, "weight", "echo-02", "2.5")
    changed = endpoint(program, "echo-02")
    assert (changed["slots"], changed["weight"]) == (7, 2.5)
    assert (endpoint(program)["slots"], endpoint(program)["weight"]) == (2, 1.0)
    with urllib.request.urlopen(f"http://127.0.0.1:{9300 + program.offset}/metrics") as answer:
        assert b'endpoint_slots{pool="echo",endpoint="echo-02"} 7' in answer.read()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("drain", "echo-03"), "No endpoint is named echo-03"),
        (("slots", "echo-01", "0"), "slots: Input should be greater than or equal to 1"),
        (("weight", "echo-01", "0"), "weight: Input should be greater than or equal to 0.01"),
    ],
)
def test_what_makes_no_sense_is_refused(program: Program, arguments: tuple[str, ...], said: str) -> None:
    """In the program's own words."""
    assert said in command(program, *arguments, fails=True)


def test_kept_answers_are_shown_and_forgotten(program: Program) -> None:
    """Of the pools that keep any."""
    shown = run("kept", "list", "--json", "--state-dir", program.state_dir)
    assert json.loads(shown.stdout) == [{"pool": "speech", "answers": 0, "bytes": 0, "limit": 1_000_000, "served": 0}]
    assert "speech" in run("kept", "clear", "--state-dir", program.state_dir).stdout
    assert program.said('"event":"kept_answers_forgotten","answers":0')


def test_where_no_program_runs_the_command_says_so(tmp_path: Path) -> None:
    """And how to name another one."""
    ended = run("pool", "list", "--state-dir", tmp_path)
    assert ended.returncode == 1
    assert "no program answers" in ended.stderr
    assert "--state-dir" in ended.stderr


def test_a_second_program_does_without(program: Program, tmp_path: Path) -> None:
    """It takes nobody's socket away, and says so; one that was left behind is replaced."""
    config = program.state_dir.parent / "config.toml"
    with serve(program.state_dir, "--config", str(config)) as second:
        until(lambda: second.said("admin_socket_unavailable"))
    assert endpoint(program)
    left = tmp_path / "state"
    left.mkdir()
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(left / "admin.sock"))
    with serve(left, "--config", str(config)) as third:
        command(third, "list")
    assert not (left / "admin.sock").exists()
