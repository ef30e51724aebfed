"""What a person reads when the program serves."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from sovren_edge.config.load import load_config
from sovren_edge.config.plan import Plan, make_plan
from sovren_edge.process.screen import print_screen

SHIPPED = Path(__file__).parents[2] / "config.toml"
QUESTION = 'curl localhost:8250/executives/interact -H "Authorization: Bearer $('


def screen(plan: Plan) -> str:
    """Return it, as a wide terminal shows it."""
    console = Console(file=io.StringIO(), width=200, highlight=False)
    print_screen(plan, Path.cwd() / ".state", [], console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def plan() -> Plan:
    """Return what --local --llm makes of the shipped configuration."""
    return make_plan(load_config(SHIPPED, secrets=None, local=True), local=True, llm=True)


def test_the_executives_are_asked_where_there_is_a_model(plan: Plan) -> None:
    """In a line that can be pasted; the small model is called what it is."""
    shown = screen(plan)
    assert QUESTION in shown
    assert "token --subject founder --state-dir .state | tail -1)" in shown
    assert "a demonstration model: too small for advice" in shown
    assert "demonstration" not in screen(replace(plan, engines=plan.engines[:-1]))


def test_where_there_is_none_it_says_how_to_get_one(plan: Plan) -> None:
    """In one line; a program without executives needs none."""
    without = replace(plan, services={})
    assert "make run LLM=1" in screen(without)
    assert QUESTION not in screen(without)
    others = tuple(listener for listener in plan.listeners if listener.name != "executives")
    assert "LLM=1" not in screen(replace(without, listeners=others))
    assert "LLM=1" not in screen(replace(without, local=False))
