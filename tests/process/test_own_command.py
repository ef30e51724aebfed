"""How the program starts itself."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from sovren_edge.process.own_command import next_command, own_command


def test_it_starts_this_very_program(tmp_path: Path) -> None:
    """In whatever folder, even in one that has a package of the same name."""
    (tmp_path / "sovren_edge").mkdir()
    (tmp_path / "sovren_edge" / "__init__.py").write_text("raise SystemExit(9)", encoding="utf-8")
    done = subprocess.run([*own_command(), "--version"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert version("sovren-edge") in done.stdout
    assert done.stdout.startswith("sovren-edge, ")
    assert next_command() == own_command()


def test_in_one_file_a_worker_is_the_unpacked_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And an upgrade is the file that was started, as it is by then."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "sovren-edge"))
    assert own_command() == next_command() == [str(tmp_path / "sovren-edge")]
    (tmp_path / "started").symlink_to("/opt/sovren-edge")
    assert own_command() == [str(tmp_path / "sovren-edge")]
    assert next_command() == ["/opt/sovren-edge"]
