"""Handlers found among installed distributions: real metadata in directories of their own."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sovren_edge.handler import Handler
from sovren_edge.handler.discovery import GROUP, find_handlers

Install = Callable[[str, str, str], None]

_SOURCE = """
from contextlib import asynccontextmanager
from sovren_edge.handler import Handler

class Whole(Handler):
    @asynccontextmanager
    async def open(self, edge):
        yield []

class Closed(Handler):
    pass

class Other:
    pass
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a way to install a distribution that offers one handler."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "strange_service.py").write_text(_SOURCE, encoding="utf-8")
    (tmp_path / "strange_broken.py").write_text("raise RuntimeError('no luck')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    def make(distribution: str, name: str, target: str) -> None:
        directory = tmp_path / distribution / f"{distribution}-1.2.dist-info"
        directory.mkdir(parents=True)
        (directory / "METADATA").write_text(f"Name: {distribution}\nVersion: 1.2\n", encoding="utf-8")
        (directory / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {target}\n", encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path / distribution)

    return make


def test_a_handler_is_found_by_its_name(install: Install) -> None:
    """Its class is returned."""
    install("alpha", "whole", "strange_service:Whole")
    found = find_handlers(["whole"])["whole"]
    assert isinstance(found, type)
    assert issubclass(found, Handler)
    assert found.__name__ == "Whole"


def test_only_what_is_asked_for_is_imported(install: Install) -> None:
    """A broken neighbour does not matter, and nobody's code runs uninvited."""
    install("alpha", "whole", "strange_service:Whole")
    install("beta", "broken", "strange_broken:Broken")
    assert isinstance(find_handlers(["whole"])["whole"], type)
    assert find_handlers([]) == {}
    assert "strange_broken" not in sys.modules


def test_all_faults_are_returned_together(install: Install) -> None:
    """Each name has its own sentence, and a sound one beside them its class."""
    install("alpha", "whole", "strange_service:Whole")
    install("beta", "broken", "strange_broken:Broken")
    install("gamma", "missing", "strange_service:Missing")
    install("delta", "other", "strange_service:Other")
    install("epsilon", "closed", "strange_service:Closed")
    found = find_handlers(["whole", "whale", "zzz", "broken", "missing", "other", "closed"])
    assert isinstance(found.pop("whole"), type)
    assert found.pop("whale") == ("no installed distribution offers a handler named 'whale'; did you mean 'whole'?")
    unknown = found.pop("zzz")
    assert isinstance(unknown, str)
    assert "; installed are: " in unknown
    assert found == {
        "broken": "the handler 'broken' (strange_broken:Broken, of beta 1.2) cannot be imported: RuntimeError: no luck",
        "missing": "the handler 'missing' (strange_service:Missing, of gamma 1.2) cannot be imported: AttributeError: "
        "module 'strange_service' has no attribute 'Missing'",
        "other": "the handler 'other' (strange_service:Other, of delta 1.2) is not a subclass of "
        "sovren_edge.handler.Handler",
        "closed": "the handler 'closed' (strange_service:Closed, of epsilon 1.2) does not define open()",
    }


def test_two_distributions_may_not_offer_one_name(install: Install) -> None:
    """The fault names both."""
    install("alpha", "whole", "strange_service:Whole")
    install("beta", "whole", "strange_service:Whole")
    fault = find_handlers(["whole"])["whole"]
    assert isinstance(fault, str)
    assert fault.startswith("more than one distribution offers a handler named 'whole': ")
    assert "alpha 1.2" in fault
    assert "beta 1.2" in fault
