"""The guide to writing a handler shows code that is the code."""

import re
from pathlib import Path

import pytest

from tests.handler.stranger import STRANGER

GUIDE = (STRANGER.parents[1] / "docs" / "writing-a-handler.md").read_text(encoding="utf-8")
SHOWN = dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL))
FILES = sorted(path for path in STRANGER.rglob("*") if path.suffix in {".py", ".sql", ".toml"})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_guide_shows_every_file(path: Path) -> None:
    """Each file of the greeter stands in the guide, letter for letter."""
    assert SHOWN[path.relative_to(STRANGER).as_posix()] == path.read_text(encoding="utf-8")


def test_the_guide_shows_nothing_else() -> None:
    """No file that it shows is gone."""
    assert SHOWN.keys() == {path.relative_to(STRANGER).as_posix() for path in FILES}
