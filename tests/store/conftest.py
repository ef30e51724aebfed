"""Histories of migrations that a test writes."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from sovren_edge.store.history import History

MakeHistory = Callable[[str, Mapping[str, str]], History]


@pytest.fixture
def make_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: Iterator[int]) -> MakeHistory:
    """Return a way to write a history's files into a new package."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str, texts: Mapping[str, str]) -> History:
        package = f"migrations_{next(numbers)}"
        directory = tmp_path / package
        directory.mkdir()
        (directory / "__init__.py").touch()
        for file, text in texts.items():
            (directory / file).write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        return History(name, package)

    return make
