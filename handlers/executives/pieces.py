"""Owns cutting an answer that is still being written into pieces that can be spoken.

A piece is one sentence or more. Where sentences end is sentencex's judgement, and a sentence is over when something has
come behind it. The first piece may end with a clause, so that speech begins soon; once the listener has waited, with
whatever can stand alone. Must not know who writes or speaks.
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
# A text is looked at in pieces of this length, so that what is looked at again and again is short.
_WINDOW: Final = 256
_CLAUSE: Final = re.compile(
    r"[,;:][\"'\u201d\u2019)\]]*\s|\s[-\u2013]\s|\u2014\s?(?=.)|[\uff0c\uff1b\uff1a\u3001](?=.)"
)
# Before such a word a voice may pause.
_JOINING: Final = re.compile(
    r"\s(?=(?:and|but|or|so|yet|because|since|although|though|while|when|where|which|who|that|if|unless|until)\s)",
    re.IGNORECASE,
)
_WORD_END: Final = re.compile(r"(?<=\w)\s")
# Whatever stands only within sentences; all else may end one.
_MAY_END: Final = re.compile(r"[^\w ,'\"()-]")
# What ends a sentence with no space behind it, and what ends a line so that nobody runs on.
_WIDE_ENDS: Final = ("\u3002", "\uff01", "\uff1f", "\uff0e", "\u2026")
_PAUSES: Final = (".", "!", "?", ",", ";", ":", "\uff0c", "\uff1b", "\uff1a", *_WIDE_ENDS)


class Pieces:
    """Cuts one answer; times are in seconds, of one clock."""

    def __init__(self, language: str = "en") -> None:
        self._language = language
        self._plain = Plain()
        # What may go on, behind sentences that are over and too short for a piece.
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
        pieces: list[str] = []
        for at in range(0, len(text), _WINDOW):
            self._text += self._plain.feed(text[at : at + _WINDOW])
            if self._begun_at is None and self._text.strip():
                self._begun_at = now
            pieces += self.at(now)
        return pieces

    def at(self, now: float) -> list[str]:
        """Return the pieces that are due, or over; to be asked at `due_at`."""
        pieces = self._sentences()
        if self._first:
            pieces += self._beginning(now)
        while len(self._text) > MOST:
            pieces += self._cut(self._text.rfind(" ", 0, MOST) + 1 or MOST)
        return pieces

    def finish(self) -> list[str]:
        """Return the rest."""
        self._text += self._plain.finish() + "\n"
        return [*self._sentences(), *self._piece()]

    def _sentences(self) -> list[str]:
        """Take off all sentences that are over; those that are too short wait for the next one."""
        *lines, self._text = self._text.split("\n")
        over = [sentence for line in lines for sentence in self._segments(_ended(line))]
        if _MAY_END.search(self._text):
            *more, self._text = self._segments(self._text)
            over += more
        return [piece for sentence in over for piece in self._join(sentence)]

    def _segments(self, text: str) -> list[str]:
        """Return a text's sentences. What has no space behind it ends none: sovren.AI is one word."""
        sentences = [""]
        for part in sentencex.segment(self._language, text):
            before = sentences[-1]
            if not before or before[-1].isspace() or part[0].isspace() or before.endswith(_WIDE_ENDS):
                sentences.append(part)
            else:
                sentences[-1] += part
        return sentences[1:] or [text]

    def _beginning(self, now: float) -> list[str]:
        """Take off the beginning of the first sentence, if it is long enough, or late."""
        self._whole, self._text = "", self._whole + self._text
        late = self._begun_at is not None and now >= self._begun_at + FIRST_DUE_S
        end = _late_end(self._text) if late else _last_end(_CLAUSE, self._text, FIRST_LENGTH)
        return self._cut(end) if end else []

    def _cut(self, at: int) -> list[str]:
        """Take off a part of a sentence."""
        self._whole, self._text = self._whole + self._text[:at], self._text[at:]
        return self._piece()

    def _join(self, sentence: str) -> list[str]:
        """Put a sentence behind those that wait, unless it says nothing; return a piece if they are long enough."""
        self._whole += sentence if _letters(sentence) else ""
        return self._piece() if _letters(self._whole) >= (FIRST_LETTERS if self._first else LETTERS) else []

    def _piece(self) -> list[str]:
        """Return what is over as a piece, if there is anything to say."""
        piece, self._whole = " ".join(self._whole.split()), ""
        if not _letters(piece):
            return []
        self._first = False
        return [piece]


def _letters(text: str) -> int:
    return sum(map(str.isalnum, text))


def _last_end(pattern: re.Pattern[str], text: str, least: int) -> int:
    """Return where the last match ends, 0 if that is before `least`."""
    end = max((match.end() for match in pattern.finditer(text)), default=0)
    return end if end >= least else 0


def _late_end(text: str) -> int:
    """Return where a beginning ends that must not wait: at a clause, else before a joining word, else with a word."""
    end = _last_end(_CLAUSE, text, FIRST_LEAST) or _last_end(_JOINING, text, FIRST_LEAST)
    return end or (_last_end(_WORD_END, text, FIRST_LEAST) if len(text) >= FIRST_LENGTH else 0)


def _ended(line: str) -> str:
    """Return a line as a sentence: headings and lists have no full stops, but are spoken with a pause behind them."""
    stripped = line.rstrip()
    said = stripped.rstrip("\"'\u201d\u2019)]")
    return f"{stripped} " if not said or said.endswith(_PAUSES) else f"{stripped}. "
