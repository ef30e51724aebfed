"""Owns taking Markdown off a text while it comes, so that what is left can be spoken.

Headings, lists, quotes and emphasis keep their words, links their text, code within a line its own; blocks of code,
tables and pictures of feelings are left out. Every character is looked at once. Must not know sentences.
"""

import re
from enum import Enum
from typing import Final

from handlers.executives.inline import Inline

# What may stand at the beginning of a line while it is not known what the line is.
_OPENING: Final = re.compile(r"[\s#>*+\-\u2022~`|=_\d.)]*")
_LONGEST_OPENING: Final = 24
_MARKS: Final = re.compile(r"(?:(?:#{1,6}|[-*+\u2022]|\d{1,3}[.)])\s+(?=\S)|>\s*)*")
_FENCE: Final = re.compile(r"```|~~~")


class _Line(Enum):
    OPENING = 1
    PROSE = 2
    DROPPED = 3
    FENCE = 4


class Plain:
    """Turns Markdown into plain text, with a line end wherever one of it ends what was being said."""

    def __init__(self) -> None:
        self._line = _Line.OPENING
        self._opening = ""
        # What ends the block of code that is open.
        self._fence = ""
        self._inline = Inline()
        self._heading = False
        # A line has ended, and what it says may go on in the next one.
        self._paused = False

    def feed(self, text: str) -> str:
        """Return what is known to be plain text by now."""
        return "".join(map(self._take, text))

    def finish(self) -> str:
        """Return the rest."""
        return self._end_line() + self._break()

    def _take(self, char: str) -> str:
        if char == "\n":
            return self._end_line()
        match self._line:
            case _Line.PROSE:
                return self._inline.take(char)
            case _Line.OPENING:
                return self._take_opening(char)
            case _Line.FENCE if char == "`" == self._fence[0]:
                # No fence has such a mark behind it: this was code within a line.
                self._line, self._fence, self._inline = _Line.PROSE, "", Inline()
        return ""

    def _take_opening(self, char: str) -> str:
        if char.isspace() and not self._opening:
            return ""
        self._opening += char
        waits = len(self._opening) < _LONGEST_OPENING and _OPENING.fullmatch(self._opening)
        return "" if waits else self._open()

    def _end_line(self) -> str:
        said = self._open() if self._line is _Line.OPENING else ""
        if self._line is _Line.PROSE:
            said += self._inline.end()
            self._paused = True
        self._line = _Line.OPENING
        return said

    def _open(self) -> str:
        """Begin a line that is known by its opening."""
        opening, self._opening = self._opening, ""
        text = _MARKS.sub("", opening, count=1)
        fence = _FENCE.match(text)
        if self._fence:
            self._line = _Line.DROPPED
            self._fence = "" if fence and fence.group() == self._fence else self._fence
        elif fence:
            self._line, self._fence = _Line.FENCE, fence.group()
        elif text.startswith("|") or (_OPENING.fullmatch(text) and not any(map(str.isalnum, text))):
            self._line = _Line.DROPPED
        else:
            return self._open_prose(opening.removesuffix(text), text)
        return self._break()

    def _open_prose(self, marks: str, text: str) -> str:
        goes_on = self._paused and not self._heading and not marks and text[0].islower()
        if goes_on:
            self._paused = False
        self._line, self._inline, self._heading = _Line.PROSE, Inline(), "#" in marks
        return (" " if goes_on else self._break()) + "".join(map(self._inline.take, text))

    def _break(self) -> str:
        """End what was being said."""
        paused, self._paused = self._paused, False
        return "\n" if paused else ""
