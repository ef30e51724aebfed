"""The PROXY header, version 2: what is believed, what is refused."""

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovren_edge.http.proxy_protocol import FIXED_SIZE, REST_LIMIT, ProxyHeaderError, caller_address, rest_size

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = bytes([192, 0, 2, 7, 127, 0, 0, 1]) + struct.pack("!HH", 4000, 80)
V6 = ip_address("2001:db8::7").packed + ip_address("::1").packed + struct.pack("!HH", 4000, 80)


def header(command: int, family: int, rest: bytes, size: int | None = None) -> bytes:
    """Write a header."""
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(rest) if size is None else size) + rest


@pytest.mark.parametrize(
    ("data", "address"),
    [
        (header(0x21, 0x11, V4), "192.0.2.7"),
        (header(0x21, 0x21, V6), "2001:db8::7"),
        (header(0x21, 0x11, V4 + b"\x04\x00\x01x"), "192.0.2.7"),
        (header(0x20, 0x00, b""), None),
        (header(0x20, 0x11, V4), None),
        (header(0x20, 0x31, b"x" * 216), None),
        (header(0x21, 0x00, b""), None),
    ],
)
def test_what_is_believed(data: bytes, address: str | None) -> None:
    """TCP over IPv4 and IPv6; values behind the addresses are passed over, and LOCAL announces nobody."""
    fixed, rest = data[:FIXED_SIZE], data[FIXED_SIZE:]
    assert rest_size(fixed) == len(rest)
    assert caller_address(fixed, rest) == address


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        header(0x11, 0x11, V4),
        header(0x22, 0x11, V4),
        header(0x21, 0x12, V4),
        header(0x21, 0x31, b"x" * 216),
        header(0x21, 0x11, V4[:-1]),
        header(0x21, 0x21, V4),
        header(0x21, 0x11, V4, size=REST_LIMIT + 1),
    ],
)
def test_what_is_refused(data: bytes) -> None:
    """Version 1, other bytes, other versions and commands, datagrams and Unix sockets, too short, too long."""
    with pytest.raises(ProxyHeaderError):
        rest_size(data[:FIXED_SIZE])


@given(st.binary(min_size=4, max_size=4), st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(middle: bytes, rest: bytes) -> None:
    """Nothing but ProxyHeaderError is ever raised, and an address that is read is one."""
    fixed = SIGNATURE + middle
    try:
        size = rest_size(fixed)
    except ProxyHeaderError:
        return
    if len(rest) >= size and (address := caller_address(fixed, rest[:size])) is not None:
        ip_address(address)
