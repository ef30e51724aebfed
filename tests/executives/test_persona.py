"""What a model is told before it answers."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.executives.completion import Turn
from handlers.executives.persona import HISTORY_CHARACTERS, turns
from handlers.executives.records import Exchange
from handlers.executives.roster import Executive

CFO = Executive("cfo", "Ingrid", "CFO", "Finance", "active", ("budgets",), "coral", "You keep the money honest.")


def test_who_it_is_comes_first() -> None:
    """Its name, its role and its persona, how it speaks, and what it may ask for."""
    (system, user) = turns(CFO, (), "How are we?")
    assert system.role == "system"
    assert system.content.startswith(
        "You are Ingrid, CFO of the Shadow Board. You keep the money honest. You are heard"
    )
    assert "propose_approval" not in system.content
    assert user == Turn("user", "How are we?")
    assert "propose_approval" in turns(CFO, (), "How are we?", proposes=True)[0].content


@pytest.mark.parametrize(
    ("context", "told"),
    [
        ("on the move", "on the move"),
        ({"page": [1]}, '{"page":[1]}'),
        (0, "0"),
        ([], "[]"),
        ({"n": 10**30}, '{"n":1000000000000000000000000000000}'),
        ("ä", "ä"),
        (["ä"], '["ä"]'),
    ],
)
def test_context_stands_behind_the_question(context: object, told: str) -> None:
    """Text as it is, everything else as JSON."""
    assert turns(CFO, (), "Why?", context)[-1].content == f"Why?\n\nContext: {told}"  # type: ignore[arg-type]


@given(st.lists(st.builds(Exchange, st.text(max_size=9000), st.text(max_size=9000)), max_size=8))
def test_of_a_conversation_the_newest_are_told(history: list[Exchange]) -> None:
    """In order, question and answer in turns, as many as there is room for."""
    told = turns(CFO, history, "?")[1:-1]
    pairs = [Exchange(told[at].content, told[at + 1].content) for at in range(0, len(told), 2)]
    assert [turn.role for turn in told] == ["user", "assistant"] * len(pairs)
    assert pairs == history[len(history) - len(pairs) :]
    length = sum(len(one.question) + len(one.answer) for one in pairs)
    assert length <= HISTORY_CHARACTERS
    if len(pairs) < len(history):
        left = history[-len(pairs) - 1]
        assert length + len(left.question) + len(left.answer) > HISTORY_CHARACTERS


def test_roles_are_those_of_the_protocol() -> None:
    """No other is ever told."""
    assert set(get_args(Turn.__annotations__["role"])) == {"system", "user", "assistant"}
