"""Owns the making of request ids: UUIDs of version 7, which begin with the time, so that an index keeps them together.

Source: RFC 9562, section 5.7. Must not know clocks or chance: both are handed in.
"""

from uuid import UUID

VERSION, VARIANT = 0x7, 0b10
RANDOM_BYTES = 10


def make_request_id(unix_ms: int, random: bytes) -> UUID:
    """Return an id of a time, in milliseconds since 1970, and of RANDOM_BYTES that nobody can guess."""
    chance = int.from_bytes(random[:RANDOM_BYTES])
    above, below = chance >> 68, chance & (1 << 62) - 1
    return UUID(int=unix_ms << 80 | VERSION << 76 | above << 64 | VARIANT << 62 | below)
