"""Where a text is divided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovren_edge.speech.sentences import FIRST_LEAST, LATER_LEAST, WINDOW, divide, may_divide

WORDS = "This sentence has a middling length, as most of them do in plain prose. "


@given(text=st.text(max_size=400))
def test_the_parts_are_the_text(text: str) -> None:
    """No character is lost, and no part says nothing unless all of the text does."""
    parts = list(divide(text))
    assert "".join(parts) == text
    assert len(parts) < 2 or all(any(map(str.isalnum, part)) for part in parts)


PLAIN = st.text(st.sampled_from("aEé字नЖ7 ,'\"()-"), min_size=30, max_size=200)


@given(text=PLAIN, end=st.sampled_from(["", ".", "?", "。"]), language=st.sampled_from(["en", "de", "el", "hi", "zh"]))
def test_what_has_no_end_before_its_own_is_not_looked_at(text: str, end: str, language: str) -> None:
    """It would have been left whole."""
    assert not may_divide(text + end)
    assert len(list(divide(text + end, language))) == 1


def test_whatever_may_be_divided_is_looked_at() -> None:
    """If something behind the first part ends a sentence."""
    assert may_divide(WORDS * 2)
    assert not may_divide("Short. " + WORDS.strip()), "the first part would be too short"
    assert not may_divide("")


@pytest.mark.parametrize(
    "text", [WORDS * 500, "a" * 20_000, "a. " * 10_000, "Nothing here ends" + "." * 9_000, "。" * 9_000]
)
def test_long_texts_are_divided_piece_by_piece(text: str) -> None:
    """Also where no sentence ends for long."""
    assert "".join(divide(text)) == text


@pytest.mark.parametrize("text", ["\n" * 60_000, "." * 60_000, "so on and on " * 5_000], ids=["lines", "dots", "words"])
def test_what_has_no_end_is_left_whole(text: str) -> None:
    """Nobody searches it for long, and no word is cut."""
    assert list(divide(text)) == [text]
    assert list(divide("This is a sentence of some words. " + text))[-1].endswith(text[-30_000:])


def test_sentences_go_on_over_the_window() -> None:
    """Where a piece of the text ends, no sentence does."""
    for part in divide(WORDS * (3 * WINDOW // len(WORDS))):
        assert part.endswith("prose. ")


def test_later_parts_are_longer() -> None:
    """The first is to be heard soon, and each of the others costs a request."""
    first, *others = divide("One sentence of some words. And so. " * 30)
    assert FIRST_LEAST <= len(first) < LATER_LEAST
    assert all(len(part) >= LATER_LEAST for part in others[:-1])


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Smith met Mrs. Jones at 3.14 p.m. on Jan. 5th to speak of it at some length",
        "Visit https://example.com/a.b?c=d.html for more of the same, and stay as long as you like",
        "Only punctuation follows this sentence of words. ... !!! ???",
    ],
)
def test_what_is_no_end_of_a_sentence(text: str) -> None:
    """Abbreviations, numbers, addresses, and marks that nobody can speak."""
    assert list(divide(text)) == [text]


def test_other_scripts_have_other_marks() -> None:
    """Without a space behind them."""
    text = "今日はとても天気が良いので、散歩に出かけて公園で本を読みました。" * 2
    assert len(list(divide(text, "ja"))) == 2
