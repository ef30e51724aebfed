"""Owns remembering what heads say: who keeps a connection open sends the same head again and again.

Must not know what a head is. Only a pure function of the bytes may be remembered.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

Head = TypeVar("Head")

# Together a few megabytes at most.
HEADS = 512
LONGEST = 4096


def remember(parse: Callable[[bytes], Head]) -> Callable[[bytes], Head]:
    """Return `parse`, which remembers the last 512 heads of up to 4 KiB; what it raises is not remembered."""
    remembered = lru_cache(HEADS)(parse)

    def read(head: bytes) -> Head:
        return remembered(head) if len(head) <= LONGEST else parse(head)

    return read
