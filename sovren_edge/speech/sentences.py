"""Owns where a text may be divided: between sentences, so that each part is spoken as it would be in the whole.

Must not know who speaks. Where sentences end is sentencex's judgement: it knows abbreviations, numbers and quotation
marks of many languages, needs microseconds, and changes no character.
"""

import re
from collections.abc import Iterator

import sentencex

# A first part is soon spoken, and gives the second one a second or more. Later ones are longer: each costs a request.
FIRST_LEAST, LATER_LEAST = 24, 100
# Texts are looked at in pieces of this length, so that none takes long.
WINDOW = 4096
# Whatever stands only within sentences; all else may end one.
_ENDING = re.compile(r"[^\w ,'\"()-]")


def may_divide(text: str) -> bool:
    """Whether it is worth asking: something behind a first part's length may end a sentence, and the text goes on."""
    return _ENDING.search(text, FIRST_LEAST - 1, len(text) - 1) is not None


def divide(text: str, language: str = "en") -> Iterator[str]:
    """Yield a text in parts, each of whole sentences with something to say in it; joined, they are the text."""
    begin = at = said = 0
    least = FIRST_LEAST
    # Where for so long there was no place to divide it, the rest stays together.
    while at < len(text) and at - begin <= WINDOW // 2:
        for sentence in _sentences(text, at, language):
            length = _length(sentence)
            if said >= least and length:
                yield text[begin:at]
                begin, said, least = at, 0, LATER_LEAST
            at += len(sentence)
            said += length
    if begin < len(text):
        yield text[begin:]


def _sentences(text: str, at: int, language: str) -> list[str]:
    """Return the next sentences of a text, at least one."""
    window = text[at : at + WINDOW]
    sentences: list[str] = sentencex.segment(language, window)
    if at + WINDOW < len(text):
        if len(sentences) == 1:
            return [text[at:]]
        sentences.pop()  # it may go on behind the window
    return sentences


def _length(sentence: str) -> int:
    """Return the characters that can be spoken: nothing may be left with punctuation alone."""
    return sum(map(str.isalnum, sentence[:WINDOW]))
