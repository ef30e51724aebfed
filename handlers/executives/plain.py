"""Owns taking Markdown off a text while it comes, so that what is left can be spoken.

Headings, lists, quotes and emphasis keep their words, links their text; code blocks, tables and pictures of feelings
are left out. Every character is looked at once. Must not know sentences.
"""

import re
import unicodedata
from enum import Enum
from typing import Final

# What may stand at the beginning of a line while it is not known what the line is.
_OPENING: Final = re.compile(r"[\s#>*+\-~`|\d.)]*")
_LONGEST_OPENING: Final = 24
_MARKS: Final = re.compile(r"\s*(?:(?:#{1,6}|[-*+]|\d{1,3}[.)])\s+|>\s?)*")
_FENCE: Final = re.compile(r"\s*(?:```|~~~)")
# What is judged when the next character is known.
_HELD: Final = frozenset("*_~]!")
# Signs that are read aloud (degrees, copyright) stand below.
_FIRST_PICTURE: Final = "\u2190"


class _Line(Enum):
    OPENING = 1
    PROSE = 2
    DROPPED = 3


class Plain:
    """Turns Markdown into plain text, with a line end where a line of it ends."""

    def __init__(self) -> None:
        self._line = _Line.OPENING
        self._opening = ""
        self._in_code = False
        self._in_target = False
        self._held = ""
        self._before_held = ""
        self._last = ""

    def feed(self, text: str) -> str:
        """Return what is known to be plain text by now."""
        return "".join(map(self._take, text))

    def finish(self) -> str:
        """Return the rest."""
        return self._end_line()

    def _take(self, char: str) -> str:
        if char == "\n":
            return self._end_line()
        if self._line is _Line.DROPPED:
            return ""
        if self._line is _Line.PROSE:
            return self._inline(char)
        self._opening += char
        if len(self._opening) < _LONGEST_OPENING and _OPENING.fullmatch(self._opening):
            return ""
        return self._open()

    def _open(self) -> str:
        """Begin a line that is known by its opening."""
        opening, self._opening = self._opening, ""
        fence = _FENCE.match(opening)
        if fence or self._in_code or opening.lstrip().startswith("|"):
            self._in_code = self._in_code is not bool(fence)
            self._line = _Line.DROPPED
            return ""
        self._line = _Line.PROSE
        return "".join(map(self._inline, _MARKS.sub("", opening, count=1)))

    def _end_line(self) -> str:
        opened = self._open() if self._line is _Line.OPENING else ""
        ended = "" if self._line is _Line.DROPPED else f"{opened}{self._release('')}\n"
        self._line, self._last, self._in_target = _Line.OPENING, "", False
        return ended

    def _inline(self, char: str) -> str:
        released = self._release(char)
        last, self._last = self._last, char
        if self._in_target:
            self._in_target = char != ")"
        elif char == "(" and last == "]":
            self._in_target = True
        elif char in _HELD:
            self._held, self._before_held = char, last
        elif char not in "`[" and not _is_picture(char):
            return released + char
        return released

    def _release(self, following: str) -> str:
        """Return the held character if it is one of the text's own."""
        held, self._held = self._held, ""
        return held if held and _is_text(held, self._before_held, following) else ""


def _is_text(char: str, before: str, after: str) -> bool:
    match char:
        case "*":
            return (before.isspace() and after.isspace()) or (before.isdigit() and after.isdigit())
        case "_":
            return before.isalnum() and after.isalnum()
        case "~":
            return "~" not in {before, after}
        case "!":
            return after != "["
        case _:
            return False


def _is_picture(char: str) -> bool:
    return char >= _FIRST_PICTURE and (unicodedata.category(char) in {"So", "Sk", "Co"} or char in "\u200d\ufe0f")
