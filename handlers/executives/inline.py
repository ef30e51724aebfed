"""Owns taking Markdown's marks off a line's text: emphasis and links, code, escapes, and pictures of feelings.

What a mark means can depend on its neighbours, so some characters are held until the next one is known. Every character
is looked at once. Must not know what kind of line it is.
"""

import string
import unicodedata
from typing import Final

# What is judged when the next character is known.
_HELD: Final = frozenset("*_~!\\")
_CLOSING: Final = {"(": ")", "[": "]"}
# Signs that are read aloud (degrees, copyright, trademark) stand below.
_FIRST_PICTURE: Final = "\u2190"
_JOINER: Final = "\u200d"
# What makes a picture of the character before it.
_MAKES_PICTURE: Final = "\ufe0f\u20e3"


class Inline:
    """Turns the text of one line into what is said of it."""

    def __init__(self) -> None:
        self._held = ""
        self._before_held = ""
        self._last = ""
        self._in_code = False
        # Of a link's target: what opened it, and how many of these are open.
        self._target = ""
        self._depth = 0

    def take(self, char: str) -> str:
        """Return what is known to be said by now."""
        if self._held == "\\" and char in string.punctuation:
            self._held = self._last = ""
            return char
        released = self._release(char)
        last, self._last = self._last, char
        return released + self._judge(char, last)

    def end(self) -> str:
        """End the line; return what was held."""
        return self._release("")

    def _judge(self, char: str, last: str) -> str:
        if self._target:
            self._pass_target(char)
        elif char == "`":
            self._in_code = not self._in_code
        elif self._in_code:
            return char
        elif last == "]" and char in _CLOSING:
            self._target, self._depth = char, 1
        elif char in _HELD:
            self._held, self._before_held = char, last
        elif char == "[":
            return " " if last.isalnum() else ""
        elif char != "]" and not _is_picture(char, last):
            return char
        return ""

    def _pass_target(self, char: str) -> None:
        """Leave a link's target out; it may have parentheses of its own."""
        self._depth += (char == self._target) - (char == _CLOSING[self._target])
        if not self._depth:
            self._target = self._last = ""

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
            return True


def _is_picture(char: str, last: str) -> bool:
    """Whether it is a picture or part of one; what joins pictures also joins letters of some scripts."""
    if char == _JOINER:
        return last == "\ufe0f" or _is_picture(last, "")
    pictured = char >= _FIRST_PICTURE and unicodedata.category(char) in {"So", "Sk", "Co"}
    return pictured or char in _MAKES_PICTURE
