"""What tests of commands share: how one is called, and where it runs, and how its errors look."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sovren_edge.cli import main

Call = Callable[..., Result]
# A key that credentials are sealed with.
ONE = f"one:{base64.b64encode(bytes(32)).decode()}"


def settle(folder: Path, monkeypatch: pytest.MonkeyPatch, database_url: str, config: str) -> None:
    """Go to a directory with a configuration that may name `env:DATABASE_URL` and `env:KEYS`."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("SOVREN_EDGE_STATE_DIR", raising=False)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("KEYS", ONE)
    Path("config.toml").write_text(config, encoding="utf-8")


def caller(*group: str) -> Call:
    """Return a way to call the commands of a group in this process."""
    return lambda *words, said="": CliRunner().invoke(main, [*group, *words], input=said)


def fault(result: Result) -> str:
    """Return the one line of an error, of a command that did nothing."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.strip()
