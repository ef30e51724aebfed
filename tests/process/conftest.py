"""One local stack for all tests that do no harm to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from program import Program, serve, until


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """`serve --local`, with every engine ready."""
    with serve(tmp_path_factory.mktemp("local"), "--local") as program:
        until(lambda: program.text.count('"event":"endpoint_became_ready"') >= 5)
        yield program


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """Name a state directory of a test's own."""
    return tmp_path / "state"
