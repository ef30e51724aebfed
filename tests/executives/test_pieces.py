"""Where a growing answer is cut so that it can be spoken."""

import pytest
import sentencex
from hypothesis import example, given
from hypothesis import strategies as st

from handlers.executives.pieces import FIRST_DUE_S, LETTERS, MOST, Pieces
from handlers.executives.plain import Plain

QUICK = 0.0
SENTENCE = "Every sentence of this kind can be spoken alone. "


def cut(text: str, size: int = 4, token_s: float = QUICK) -> list[str]:
    """Return the pieces of an answer that comes in tokens of so many characters, one in so many seconds."""
    pieces, now, told = Pieces(), 0.0, list[str]()
    for at in range(0, len(text), size):
        told += pieces.add(text[at : at + size], now)
        now += token_s
    return told + pieces.finish()


def letters(text: str) -> str:
    """Return what a voice must say."""
    return "".join(filter(str.isalnum, text))


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    "pieces",
    [
        ["Revenue is up.", "Costs are down by a third, as planned."],
        ["We met Dr. Smith of Acme Inc. today.", "He was glad to be there."],
        ["It grew by 3.5 percent to $4.2 million.", "That is more than planned."],
        ["See https://Example.Com/Foo.Bar?x=Y!Z or ask sovren.AI.", "Then decide."],
        ["Well... I would not think so.", "Would you?"],
        ['He said "Stop." and left us alone there.', "Then we stopped."],
        ["Is that so?!", "Yes! It is what all of us have seen.", "Really."],
    ],
)
def test_pieces_are_sentences(pieces: list[str], size: int) -> None:
    """Short ones go with the next, and not every dot is an end."""
    assert cut(" ".join(pieces), size) == pieces


def test_sentences_of_other_scripts_end_without_a_space() -> None:
    """Their full stops are wide enough."""
    pieces = ["\u6211\u4eec\u4eca\u5929\u8fc7\u5f97\u5f88\u597d\u3002", "\u8c22\u8c22\u4f60\u4eec\u3002"]
    assert cut("".join(pieces)) == pieces


def test_a_sentence_is_over_when_something_has_come_behind_it() -> None:
    """Until then it may go on."""
    pieces = Pieces()
    assert pieces.add("The costs are 3.", QUICK) == []
    assert pieces.add("5 million. ", QUICK) == []
    assert pieces.add("S", QUICK) == ["The costs are 3.5 million."]
    assert pieces.finish() == ["S."]


def test_markdown_is_not_spoken() -> None:
    """Its lines are pauses, and what cannot be spoken is left out."""
    text = "## Summary\n\nThis is **what** I think:\n\n"
    text += "1. _Cut_ all costs (soon)\n2. Then `push` it\n\n```sh\nls\n```\n---\n\u2705\n\nDone!"
    assert cut(text) == ["Summary. This is what I think:", "Cut all costs (soon). Then push it.", "Done!"]


@pytest.mark.parametrize("text", ["", "...", "\u2705", "---", "```\ncode", " \n\n"])
def test_what_says_nothing_is_not_spoken(text: str) -> None:
    """Nobody is asked for silence."""
    assert cut(text) == []


def test_the_first_piece_may_be_a_clause() -> None:
    """If it is long enough; later ones are whole."""
    clause = "When I look at the figures of this quarter,"
    assert cut(f"{clause} they are good. {clause} I hope that it stays like that.") == [
        clause, "they are good. When I look at the figures of this quarter, I hope that it stays like that.",
    ]  # fmt: skip
    dash = "The figures of this last quarter are good\u2014"
    assert cut(f"{dash}better than ever.")[0] == dash
    assert cut("Well, yes, they are, as far as I see it.") == ["Well, yes, they are, as far as I see it."]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("As you know, dear Brian, we have", "As you know, dear Brian,"),
        ("We have grown this year and we ", "We have grown this year"),
        ("We have grown this year while the others of our kind have", "We have grown this year"),
        ("We have grown by a third of last year's rev", "We have grown by a third of last year's"),
    ],
)
def test_a_first_piece_that_is_due_ends_where_it_can(text: str, first: str) -> None:
    """At the last clause, else before a joining word, else with a word."""
    pieces = Pieces()
    assert pieces.due_at is None
    assert pieces.add(text, 5.0) == []
    due_at = pieces.due_at
    assert due_at == 5.0 + FIRST_DUE_S
    assert pieces.at(due_at - 0.01) == []
    assert pieces.at(due_at) == [first]
    assert pieces.due_at is None
    assert pieces.at(due_at + 1) == []
    assert letters("".join(pieces.finish())) == letters(text[len(first) :])


def test_nothing_that_is_due_is_too_short() -> None:
    """It waits for more, and is told with the token that makes it long enough."""
    pieces = Pieces()
    assert pieces.add("  \n", 0.0) == []
    assert pieces.due_at is None, "nobody waits for what has not begun"
    assert pieces.add("Well, we have grown", 1.0) == []
    assert pieces.at(2.0) == []
    assert pieces.add(" a lot, and", 3.0) == ["Well, we have grown a lot,"]


def test_a_sentence_without_an_end_is_cut() -> None:
    """At a word, if there are any."""
    words = cut("word and " * 200)
    assert all(MOST - 10 < len(piece) <= MOST for piece in words[:-1])
    assert {word for piece in words for word in piece.split()} == {"word", "and", "and."}
    assert [len(piece) for piece in cut("x" * 1000)] == [MOST, MOST, 201]


def test_later_pieces_are_long_enough() -> None:
    """Each costs a request."""
    pieces = cut("Yes. No. " * 50)
    assert all(len(letters(piece)) >= LETTERS for piece in pieces[1:-1])


@pytest.mark.parametrize("size", [1, 4, 100_000])
@pytest.mark.parametrize(
    "unit", [SENTENCE, "word ", "x", ". ", '"', "- a\n", "1. 2. ", "**x** ", "[a](", "\u2014 ", "# "]
)
def test_looking_costs_the_same_however_long_an_answer_is(
    unit: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is looked at again with each token is short."""
    looked: list[int] = []
    segment = sentencex.segment

    def counting(language: str, text: str) -> list[str]:
        looked.append(len(text))
        return list(segment(language, text))

    monkeypatch.setattr(sentencex, "segment", counting)
    cut((unit * 20_000)[:20_000], size)
    assert max(looked, default=0) < 2 * MOST


fragments = st.sampled_from([
    *"abc123.,;:!?-*_`~[]()#>|\"' \n\n", "word ", "Dr. ", "3.5 ", "and ", SENTENCE, "\n- ", "\n\n", "\u3002", "\u2014",
    "\u2705", "...", "word" * 60,
])  # fmt: skip


@example(tokens=["a", "\n\n"], token_s=QUICK)
@given(tokens=st.lists(fragments, max_size=80), token_s=st.sampled_from([QUICK, 0.05, 0.5]))
def test_the_pieces_say_the_whole(tokens: list[str], token_s: float) -> None:
    """No letter is lost, whatever the tokens; each piece has something to say, and none is endless."""
    pieces, plain, told = Pieces(), Plain(), list[str]()
    for at, token in enumerate(tokens):
        told += pieces.add(token, at * token_s)
        told += pieces.at(at * token_s)
    told += pieces.finish()
    assert letters("".join(told)) == letters("".join(map(plain.feed, tokens)) + plain.finish())
    assert all(letters(piece) and len(piece) <= 2 * MOST and "\n" not in piece for piece in told)
