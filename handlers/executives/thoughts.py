"""Owns leaving out what a model thinks aloud before its answer, where its server does not tell that apart.

Must not know servers, nor who is told the rest.
"""

from typing import Final

_OPENS: Final = "<think>"
_CLOSES: Final = "</think>"


class Thoughts:
    """Takes an answer's text piece after piece, and gives back what is to be told of it.

    A model thinks once, before the first word of its answer.
    """

    def __init__(self) -> None:
        self._held = ""
        self._go_on = self._open

    def leave_out(self, text: str) -> str:
        """Take more of the text; return what can be told now."""
        self._held += text
        return self._go_on()

    def finish(self) -> str:
        """Return what was held back, for it might have become a thought; a thought without an end is left out."""
        return "" if self._go_on == self._think else self._held

    def _open(self) -> str:
        begun = self._held.lstrip()
        if _OPENS.startswith(begun[: len(_OPENS)]):
            if len(begun) < len(_OPENS):
                return ""
            self._held, self._go_on = begun.removeprefix(_OPENS), self._think
        else:
            self._go_on = self._tell
        return self._go_on()

    def _think(self) -> str:
        _, closed, rest = self._held.partition(_CLOSES)
        if not closed:
            # Its end may come in pieces.
            self._held = self._held[1 - len(_CLOSES) :]
            return ""
        self._held, self._go_on = rest, self._begin
        return self._go_on()

    def _begin(self) -> str:
        self._held = self._held.lstrip()
        if self._held:
            self._go_on = self._tell
        return self._tell()

    def _tell(self) -> str:
        told, self._held = self._held, ""
        return told
