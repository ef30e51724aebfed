"""What is said of Markdown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.executives.plain import Plain

# Whatever Markdown is made of.
markdown = st.lists(
    st.sampled_from([
        *"*_~`[]()!\\#->|+.1 \n\nab", "word ", "# ", "- ", "1. ", "> ", "**", "```", "~~~", "](", "![",
        "\u2705", "\u200d", "\ufe0f",
    ]),
    max_size=60,
).map("".join)  # fmt: skip


def plain(*parts: str) -> str:
    """Return what is said of a text that comes in these parts."""
    reader = Plain()
    return "".join(map(reader.feed, parts)) + reader.finish()


@pytest.mark.parametrize(
    ("markdown", "said"),
    [
        ("Some *good* and **very good** and ***best*** news.", "Some good and very good and best news."),
        ("Some _good_ and __very good__ news of snake_case.", "Some good and very good news of snake_case."),
        ("2 * 3 is 6, and so is 2*3; ~~not 5~~ about ~6.", "2 * 3 is 6, and so is 2*3; not 5 about ~6."),
        ("Wow! Look!", "Wow! Look!"),
        ("Run `git push *now*` or `a_b`.", "Run git push *now* or a_b."),
        ("An `open one *and*\nso *on*.", "An open one *and* so on."),
        ("See [the *docs*](https://a.b/c_(d) 'Title') now.", "See the docs now."),
        ("See ![a chart](chart.png), [this][1] and [that].", "See a chart, this and that."),
        ("As told[1] in x[0] (and [2]).", "As told 1 in x 0 (and 2)."),
        ("[a](never closed\nand on.", "a and on."),
        (r"It is \$5 \*or\* so\_called \[x\](y) C:\new.", r"It is $5 *or* so_called [x](y) C:\new."),
        ("Great\U0001f389 news \u2705, 1\ufe0f\u20e3 \u2764\ufe0f\u200d\U0001f525!", "Great news , 1 !"),
        ("All \U0001f468\u200d\U0001f469\u200d\U0001f467 of us", "All  of us"),
        ("\u0915\u094d\u200d\u0937, 5 \u00b0C \u00a9 \u2122", "\u0915\u094d\u200d\u0937, 5 \u00b0C \u00a9 \u2122"),
    ],
)
def test_marks_within_a_line(markdown: str, said: str) -> None:
    """They go, and what they mark stays; what only looks like them stays."""
    assert plain(markdown) == said + "\n"


@pytest.mark.parametrize(
    ("markdown", "said"),
    [
        ("# One\n## Two\nthree", "One\nTwo\nthree\n"),
        ("- one\n- two\n  * three\n+ four\n\u2022 five", "one\ntwo\nthree\nfour\nfive\n"),
        ("1. one\n2) two\n\n10. - ten", "one\ntwo\nten\n"),
        ("> quoted\n>> twice\n> - a list", "quoted\ntwice\na list\n"),
        ("3.5 percent\n42\n1.\n- 5 apples\n-5 degrees", "3.5 percent\n42\n1.\n5 apples\n-5 degrees\n"),
        ("**Bold** begins\n*So* does this\n`code` too", "Bold begins\nSo does this\ncode too\n"),
        ("Title\n=====\ntext\n---\nmore\n***\n___", "Title\ntext\nmore\n"),
        ("a\n" + "-" * 100 + "\nb\n" + " " * 100 + "C", "a\nb\nC\n"),
        ("Of\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nso.", "Of\nso.\n"),
        ("Do:\n```python\nx = 1  # *x*\n\n| y |\n```\nThen.", "Do:\nThen.\n"),
        ("~~~\n```\n~~~\nThen.\n- ```sh\n  ls\n  ```\nNow.", "Then.\nNow.\n"),
        ("```\nnever closed\n# so", ""),
        ("```npm i``` is *all*.\nYes.", " is all.\nYes.\n"),
        ("Wrapped\nin lines\r\nand on.\nNext.\n\nnew", "Wrapped in lines\r and on.\nNext.\nnew\n"),
        ("", ""),
        ("\n\n", ""),
    ],
)
def test_lines(markdown: str, said: str) -> None:
    """Each kind is known by its beginning; what was wrapped for the eye goes on."""
    assert plain(markdown) == said


@given(markdown)
def test_it_may_come_in_any_parts(markdown: str) -> None:
    """A construct is known when it is whole, and never half told."""
    assert plain(*markdown) == plain(markdown)


@given(st.text(st.characters(codec="utf-8", exclude_characters="`~|[]()\\"), max_size=200))
def test_no_letter_is_lost(text: str) -> None:
    """Outside code, tables and targets of links; but the numbers of a list's items are marks."""
    said = plain(text)
    assert [char for char in said if char.isalpha()] == [char for char in text if char.isalpha()]


@given(st.text(max_size=200))
def test_what_is_told_only_grows(text: str) -> None:
    """Whatever comes, what was told stays as it was told."""
    reader = Plain()
    told = "".join(map(reader.feed, text))
    assert plain(text).startswith(told)
