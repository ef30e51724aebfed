"""docs/executives.md shows answers as they are, and names every reason that is given."""

import json
import re
from pathlib import Path

import pytest

from handlers.executives.listing import Deeds, Members, Pending
from tests.executives.portal import ACTIVITY, EXECUTIVES, PENDING, Schema, check

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "executives.md").read_text(encoding="utf-8")
SHOWN = {next(iter(shown)): shown for shown in map(json.loads, re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL))}
MODULES = (
    "activity", "answering", "approvals", "briefing", "listing", "records", "refusals", "roster", "talking",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "schema", "model"),
    [("executives", EXECUTIVES, Members), ("activities", ACTIVITY, Deeds), ("approvals", PENDING, Pending)],
)
def test_answers_are_shown_as_they_are(name: str, schema: Schema, model: type[Members | Deeds | Pending]) -> None:
    """Each could have been sent."""
    check(SHOWN[name], schema)
    read = model.model_validate(SHOWN[name])
    assert read.model_dump(mode="json", by_alias=True) == SHOWN[name]


@pytest.mark.parametrize("module", MODULES)
def test_every_reason_is_named(module: str) -> None:
    """With its status."""
    code = (ROOT / "handlers" / "executives" / f"{module}.py").read_text(encoding="utf-8")
    for status, reason in re.findall(r'EdgeError\((\d+), "(\w+)"', code):
        assert re.search(rf"^\| {status} \| .*`{reason}`", TEXT, re.MULTILINE), reason
