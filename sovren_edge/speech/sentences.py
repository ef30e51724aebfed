"""Owns where a text may be divided: between sentences, so that each part is spoken as it would be in the whole.

Must not know who speaks. Where sentences end is sentencex's judgement: it knows abbreviations, numbers and quotation
marks of many languages, needs microseconds, and changes no character.
"""

from collections.abc import Iterator

import sentencex

# A first part is soon spoken, and gives the second one a second or more. Later ones are longer: each costs a request.
FIRST_LEAST, LATER_LEAST = 24, 100
# Texts are looked at in pieces of this length, so that none takes long.
WINDOW = 4096


def divide(text: str, language: str = "en") -> Iterator[str]:
    """Yield a text in parts, each of whole sentences with something to say in it; joined, they are the text."""
    part, least = "", FIRST_LEAST
    for sentence in _sentences(text, language):
        if part and _length(part) >= least and _length(sentence):
            yield part
            part, least = "", LATER_LEAST
        part += sentence
    if part:
        yield part


def _sentences(text: str, language: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        window = text[at : at + WINDOW]
        sentences: list[str] = sentencex.segment(language, window)
        if len(sentences) > 1 and at + WINDOW < len(text):
            sentences.pop()  # it may go on behind the window
        yield from sentences
        at += sum(map(len, sentences))


def _length(sentence: str) -> int:
    """Return the characters that can be spoken: nothing may be left with punctuation alone."""
    return sum(map(str.isalnum, sentence))
