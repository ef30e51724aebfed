"""Owns cutting an answer that is still being written into pieces that can be spoken.

A piece is one sentence or more. Where sentences end is sentencex's judgement, and a sentence is over when something has
come behind it. The first piece may end with a clause, so that speech begins soon. Must not know who writes or speaks.
"""

import re
from typing import Final

import sentencex

from handlers.executives.plain import Plain

# The first piece: a clause of this length, or of the second one once the listener has waited for so long.
FIRST_LENGTH, FIRST_LEAST, FIRST_DUE_S = 40, 15, 0.3
# Pieces have so many letters at least, the first one and later ones: each costs a request.
FIRST_LETTERS, LETTERS = 8, 24
# A sentence that does not end is cut here.
MOST: Final = 400
_CLAUSE: Final = re.compile(r"[,;:]['\")\]]*\s|\s[-\u2013\u2014]\s")
_MAY_END: Final = re.compile(r"[^\w ,'\"()-]")


class Pieces:
    """Cuts one answer; times are in seconds, of one clock."""

    def __init__(self, language: str = "en") -> None:
        self._language = language
        self._plain = Plain()
        self._text = ""
        self._whole = ""
        self._first = True
        self._begun_at: float | None = None

    @property
    def due_at(self) -> float | None:
        """When the first piece may be shorter than it should be; None before any text, and once there was a piece."""
        return self._begun_at + FIRST_DUE_S if self._first and self._begun_at is not None else None

    def add(self, text: str, now: float) -> list[str]:
        """Return the pieces that more of the answer completes."""
        plain = self._plain.feed(text)
        if self._begun_at is None and plain.strip():
            self._begun_at = now
        self._text += plain
        return self._cut(now)

    def at(self, now: float) -> list[str]:
        """Return the first piece if it is due."""
        return self._cut(now)

    def finish(self) -> list[str]:
        """Return the rest."""
        self._text += self._plain.finish()
        pieces = self._sentences()
        self._whole += self._text
        self._text = ""
        return [*pieces, *self._emit(least=1)]

    def _cut(self, now: float) -> list[str]:
        pieces = self._sentences()
        if self._first and not pieces:
            pieces = self._clause(now)
        while len(self._text) > MOST:
            at = self._text.rfind(" ", 0, MOST) + 1 or MOST
            self._whole, self._text = self._whole + self._text[:at], self._text[at:]
            pieces += self._emit(least=1)
        return pieces

    def _sentences(self) -> list[str]:
        """Take off all sentences that are over; those that are too short wait for the next one."""
        pieces: list[str] = []
        *lines, self._text = self._text.split("\n")
        for line in lines:
            for sentence in self._segments(_ended(line)):
                self._whole += sentence
                pieces += self._emit(least=self._letters)
        if _MAY_END.search(self._text):
            *over, self._text = self._segments(self._text)
            for sentence in over:
                self._whole += sentence
                pieces += self._emit(least=self._letters)
        return pieces

    @property
    def _letters(self) -> int:
        return FIRST_LETTERS if self._first else LETTERS

    def _segments(self, text: str) -> list[str]:
        return sentencex.segment(self._language, text) or [text]

    def _clause(self, now: float) -> list[str]:
        """Take off the beginning of the first sentence, if it is long enough or late."""
        due_at = self.due_at
        least = FIRST_LEAST if due_at is not None and now >= due_at else FIRST_LENGTH
        text = self._whole + self._text
        ends = [clause.end() for clause in _CLAUSE.finditer(text) if clause.end() >= least]
        if not ends:
            return []
        self._whole, self._text = text[: ends[0]], text[ends[0] :]
        return self._emit(least=1)

    def _emit(self, least: int) -> list[str]:
        """Return what is whole as a piece, if it has so many letters."""
        if sum(map(str.isalnum, self._whole)) < least:
            return []
        piece, self._whole, self._first = " ".join(self._whole.split()), "", False
        return [piece]


def _ended(line: str) -> str:
    """Return a line as a sentence: headings and lists have no full stops, but are spoken with a pause behind them."""
    stripped = line.rstrip()
    return f"{stripped}. " if stripped[-1:].isalnum() else f"{stripped} "
