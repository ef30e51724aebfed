"""What the tests of the configuration share: files written and judged, and a handler installed as a stranger's is."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sovren_edge.config.fault import ConfigurationError, Fault
from sovren_edge.config.load import load_config
from sovren_edge.config.model import Config
from sovren_edge.secret import SecretSource
from tests.config.config_texts import HANDLER, METADATA

Load = Callable[..., Config]
Judge = Callable[..., dict[str, Fault]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return a way to load a configuration from its text."""

    def load_text(
        text: str, environ: Mapping[str, str] | None = None, *, local: bool = False, made_in: Path | None = None
    ) -> Config:
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        made_in = made_in or (tmp_path / "secrets" if local else None)
        return load_config(path, secrets=SecretSource(environ or {}, made_in), local=local)

    return load_text


@pytest.fixture
def judge(load: Load) -> Judge:
    """Return a way to get a faulty text's faults by their paths."""

    def judge_text(text: str, environ: Mapping[str, str] | None = None, *, local: bool = False) -> dict[str, Fault]:
        with pytest.raises(ConfigurationError) as raised:
            load(text, environ, local=local)
        return {fault.path: fault for fault in raised.value.faults}

    return judge_text


@pytest.fixture
def echo_handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution that offers the handler `echo`, whose package of migrations is `edge_echo_tables`."""
    site = tmp_path / "site"
    information = site / "edge_echo-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(METADATA, encoding="utf-8")
    (information / "entry_points.txt").write_text("[sovren_edge.handlers]\necho = edge_echo:Echo\n", encoding="utf-8")
    (site / "edge_echo.py").write_text(HANDLER, encoding="utf-8")
    tables = site / "edge_echo_tables"
    tables.mkdir()
    (tables / "__init__.py").touch()
    (tables / "0001_echoes.sql").write_text("CREATE TABLE echoes (text text NOT NULL);\n", encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
