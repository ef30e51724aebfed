"""Owns what is known of a request before it runs: how much there is to speak, for whom, and how soon.

Must not know how that was found out.
"""

from enum import IntEnum
from math import inf
from typing import NamedTuple


class Priority(IntEnum):
    """How soon somebody listens; a lower number goes first."""

    INTERACTIVE = 0
    STANDARD = 1
    BULK = 2


# What nearly everybody is; to look a member up in its enumeration costs more than a call.
STANDARD = Priority.STANDARD


class Demand(NamedTuple):
    """A request for speech; `characters` is its text's length by its speed, None where no text could be read.

    `caller` is whoever shares are counted for; after its `deadline`, a point in time, a slot is of no use to it.
    `first` is the length of its first part, where it may be spoken in parts. Of a part of a text that is already being
    heard, `due` is when its listener will have heard what is before it. Texts of one `affinity` are best spoken by the
    endpoint that spoke the one before.
    """

    characters: float | None = None
    voice: str = ""
    caller: str = ""
    priority: Priority = STANDARD
    deadline: float = inf
    first: float | None = None
    due: float | None = None
    affinity: str = ""


UNKNOWN = Demand()
