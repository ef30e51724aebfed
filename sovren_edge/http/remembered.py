"""Owns remembering what heads say: who keeps a connection open sends the same head again and again.

Must not know what a head is. Only a pure function of the bytes may be remembered.
"""

from collections.abc import Callable
from typing import TypeVar

Head = TypeVar("Head")

# Together a few megabytes at most.
HEADS = 512
LONGEST = 4096


class Remembered(dict[bytes, Head]):
    """What `parse` makes of a head, under the head's bytes: the last 512 new ones of up to 4 KiB are kept.

    A dictionary, so that nothing but its own lookup runs for a head that is known. What `parse` raises is not kept.
    """

    def __init__(self, parse: Callable[[bytes], Head]) -> None:
        super().__init__()
        self._parse = parse

    def __missing__(self, head: bytes) -> Head:
        """Read a head that is not known."""
        said = self._parse(head)
        if len(head) <= LONGEST:
            if len(self) >= HEADS:
                del self[next(iter(self))]
            self[head] = said
        return said
