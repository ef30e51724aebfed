"""Owns what is known of a request before it runs: how much there is to speak, for whom, and how soon.

Must not know how that was found out.
"""

from dataclasses import dataclass
from enum import IntEnum


class Priority(IntEnum):
    """How soon somebody listens; a lower number goes first."""

    INTERACTIVE = 0
    STANDARD = 1
    BULK = 2


@dataclass(frozen=True, slots=True)
class Demand:
    """A request for speech; `characters` is its text's length by its speed, None where no text could be read.

    `caller` is whoever shares are counted for; it is refused if it would wait longer than `patience_s` for a slot.
    """

    characters: float | None = None
    voice: str = ""
    caller: str = ""
    priority: Priority = Priority.STANDARD
    patience_s: float | None = None


UNKNOWN = Demand()
