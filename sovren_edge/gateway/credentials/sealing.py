"""Owns how secrets of subscribers are sealed at rest: bound to what they are for, under a key that the seal names.

AES-256-GCM of `cryptography`; a seal that was copied to another subscriber, service or host does not open. Must not
know where seals are stored, nor what is in them.
"""

import base64
import binascii
import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

KEY_BYTES, NONCE_BYTES, LONGEST_NAME = 32, 12, 32
_VERSION = 1


class SealError(ValueError):
    """A seal that cannot be opened; its message never holds a secret."""


def read_keys(text: str) -> dict[str, bytes]:
    """Read keys as `name:BASE64`, parted by commas; the first seals, all open. ValueError names no key's value."""
    keys: dict[str, bytes] = {}
    for part in text.split(","):
        name, _, written = part.strip().partition(":")
        try:
            key = base64.b64decode(written, validate=True)
        except binascii.Error:
            key = b""
        if len(key) != KEY_BYTES or not 0 < len(name.encode()) <= LONGEST_NAME or name in keys:
            raise ValueError(f"keys are written name:BASE64 of {KEY_BYTES} bytes, each name once, parted by commas")
        keys[name] = key
    return keys


def make_keys() -> str:
    """Return a new key, as `read_keys` reads it."""
    return f"local:{base64.b64encode(os.urandom(KEY_BYTES)).decode()}"


class Sealer:
    """Seals under the first of its keys, and opens what was sealed under any of them."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self.name = next(iter(keys))

    def seal(self, secret: bytes, *bound: str) -> bytes:
        """Return a secret sealed for what it is bound to, such as a subscriber, a service and a host."""
        head = bytes([_VERSION, len(self.name.encode())]) + self.name.encode()
        nonce = os.urandom(NONCE_BYTES)
        return head + nonce + self._ciphers[self.name].encrypt(nonce, secret, _told(head, bound))

    def open(self, seal: bytes, *bound: str) -> bytes:
        """Return what was sealed for exactly this; raises SealError."""
        name, begin = _name_of(seal), 2 + seal[1]
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise SealError(f"it was sealed under the key {name!r}, which is not configured")
        try:
            return cipher.decrypt(
                seal[begin : begin + NONCE_BYTES], seal[begin + NONCE_BYTES :], _told(seal[:begin], bound)
            )
        except (InvalidTag, ValueError):
            raise SealError("it was changed, or sealed for something else") from None


def make_sealer(keys: SecretStr | None) -> Sealer | None:
    """Return a sealer of keys as they are configured, if they are."""
    return None if keys is None else Sealer(read_keys(keys.get_secret_value()))


def _name_of(seal: bytes) -> str:
    if len(seal) < 2 or seal[0] != _VERSION:  # noqa: PLR2004 - the version and the name's length
        raise SealError("it is no seal of ours")
    return seal[2 : 2 + seal[1]].decode("utf-8", "replace")


def _told(head: bytes, bound: tuple[str, ...]) -> bytes:
    """Return what is authenticated beside the secret; lengths keep two bindings from reading alike."""
    return head + b"".join(b"%d:%s" % (len(part.encode()), part.encode()) for part in bound)
