"""Owns what an idempotency key is, what it stands for, and the form in which an answer is kept under it.

Must not know where keys are kept, nor whether a request was sent.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import orjson

from sovren_edge.gateway.egress.fields import OWS, Field
from sovren_edge.gateway.egress.policy import Denial

# Larger bodies are not kept.
LONGEST_BODY = 1 << 20

KEY = re.compile(r"[ -~]{1,255}")
KEY_MALFORMED = Denial(
    400, "idempotency_key_malformed", "Idempotency-Key may be given once, as 1 to 255 printable ASCII characters."
)
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer as it was given: fields in order, text as everywhere here UTF-8 with surrogates for other bytes."""

    status: int
    reason: str
    fields: list[Field]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Replay:
    """An answer that is given again, and the request that it was first given to."""

    request_id: UUID
    answer: Kept


def read_key(values: Sequence[str]) -> str | Denial | None:
    """Return the key, of all values that Idempotency-Key has; None if there is none."""
    if not values:
        return None
    key = values[0].strip(OWS)
    return key if len(values) == 1 and KEY.fullmatch(key) else KEY_MALFORMED


def fingerprint(method: str, url: str, body: bytes) -> bytes:
    """Return what tells whether two requests are the same one."""
    digest = hashlib.sha256(orjson.dumps([method, url]))
    digest.update(body)
    return digest.digest()


def encode(answer: Kept) -> bytes:
    """Return an answer as bytes: the length of its head, its head as JSON, its body."""
    fields = [(_written(name), _written(value)) for name, value in answer.fields]
    head = orjson.dumps([answer.status, _written(answer.reason), fields])
    return len(head).to_bytes(_LENGTH_BYTES) + head + answer.body


def decode(encoded: bytes) -> Kept:
    """Return an answer that was encoded."""
    end = _LENGTH_BYTES + int.from_bytes(encoded[:_LENGTH_BYTES])
    status, reason, fields = orjson.loads(encoded[_LENGTH_BYTES:end])
    return Kept(status, _read(reason), [(_read(name), _read(value)) for name, value in fields], encoded[end:])


def _written(text: str) -> str:
    """Return text as JSON can have it: a character for each byte."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _read(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "surrogateescape")
