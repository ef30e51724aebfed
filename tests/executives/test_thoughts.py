"""Thoughts that stand in an answer's own text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.executives.thoughts import Thoughts


def told(*pieces: str) -> str:
    """Return what is told of a text that comes in pieces."""
    thoughts = Thoughts()
    return "".join([*map(thoughts.leave_out, pieces), thoughts.finish()])


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Yes.", "Yes."),
        ("<think>Hm.</think>Yes.", "Yes."),
        ("\n <think>\nHm. a < b\n</think>\n\nYes. \n", "Yes. \n"),
        ("<think></think>", ""),
        ("<think>Hm.", ""),
        ("<think>Hm.</thi", ""),
        ("<thi", "<thi"),
        ("  ", "  "),
        ("<thing>", "<thing>"),
        ("Yes <think>no</think>.", "Yes <think>no</think>."),
        ("<think>Hm.</think>Yes <think>no</think>.", "Yes <think>no</think>."),
        ("<b>Yes</b>", "<b>Yes</b>"),
    ],
)
def test_only_the_answer_is_told(text: str, rest: str) -> None:
    """Whatever the pieces are in which it comes."""
    assert told(text) == rest
    assert told(*text) == rest


def test_an_answer_is_told_as_it_comes() -> None:
    """Nothing is held back longer than it may be a thought."""
    thoughts = Thoughts()
    pieces = ["<th", "e >", "x", "<think>"]
    assert [thoughts.leave_out(piece) for piece in pieces] == ["", "<the >", "x", "<think>"]
    assert thoughts.finish() == ""


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "think", ">", " ", "\n", "Yes.", "</thin", "k>"])))
def test_pieces_make_no_difference(pieces: list[str]) -> None:
    """For any text."""
    assert told(*pieces) == told("".join(pieces)) == told(*"".join(pieces))
