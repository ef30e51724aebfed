"""Owns the header of the PROXY protocol, version 2: what a load balancer in front of us says of its caller.

Must not know sockets. Source: haproxy.org, proxy-protocol.txt, section 2.2. Version 1, which is text, is not taken.
"""

import struct
from ipaddress import IPv4Address, IPv6Address

FIXED_SIZE = 16
# Addresses and a few type-length-values; a longer header would be somebody's idea of an attack.
REST_LIMIT = 4096
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6 = 0x00, 0x11, 0x21
_SIZES = {_UNSPECIFIED: 0, _TCP4: 12, _TCP6: 36}


class ProxyHeaderError(ValueError):
    """Bytes that are no header we accept."""


def rest_size(fixed: bytes) -> int:
    """Return how many bytes follow the first sixteen."""
    size = int(struct.unpack("!H", fixed[14:16])[0])
    if not fixed.startswith(_SIGNATURE) or fixed[12] not in {_LOCAL, _PROXY}:
        raise ProxyHeaderError("no header of version 2")
    if size > REST_LIMIT:
        raise ProxyHeaderError("the header is too long")
    if fixed[12] == _PROXY and (fixed[13] not in _SIZES or size < _SIZES[fixed[13]]):
        raise ProxyHeaderError("neither TCP over IPv4 nor over IPv6, or too short for it")
    return size


def caller_address(fixed: bytes, rest: bytes) -> str | None:
    """Return the caller's address; None where the header says to take the connection's own."""
    if fixed[12] == _LOCAL or fixed[13] == _UNSPECIFIED:
        return None
    return str(IPv4Address(rest[:4]) if fixed[13] == _TCP4 else IPv6Address(rest[:16]))
