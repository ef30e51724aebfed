"""Which addresses are public."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, collapse_addresses, ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovren_edge.gateway.egress.addresses import NETWORKS, Network, prohibited

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.9.9.9",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.0.3.0",
    "192.88.98.255",
    "192.88.100.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "198.51.101.0",
    "203.0.114.0",
    "223.255.255.255",
    "2000::",
    "2001:200::",
    "2001:4860:4860::8888",
    "2001:db7:ffff::",
    "2001:db9::",
    "2003::",
    "2606:4700::1111",
    "2620:fe::fe",
    "2a00:1450:4001::200e",
    "3ffe:ffff::",
    "3fff:1000::",
]

NOT_PUBLIC = [
    ("0.0.0.0", "this network"),
    ("0.255.255.255", "this network"),
    ("10.0.0.1", "private"),
    ("100.64.0.1", "shared by carriers"),
    ("100.100.100.200", "shared by carriers"),  # a cloud's metadata
    ("127.0.0.1", "loopback"),
    ("127.255.255.255", "loopback"),
    ("169.254.169.254", "link-local"),  # most clouds' metadata
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.1", "protocol assignments"),
    ("192.0.0.8", "protocol assignments"),
    ("192.0.0.9", "protocol assignments"),
    ("192.0.0.10", "protocol assignments"),
    ("192.0.0.170", "protocol assignments"),
    ("192.0.0.192", "protocol assignments"),  # a cloud's metadata
    ("192.0.2.1", "documentation"),
    ("192.31.196.1", "AS112 sink"),
    ("192.52.193.1", "AMT relay"),
    ("192.88.99.1", "6to4 relay"),
    ("192.168.1.1", "private"),
    ("192.175.48.1", "AS112 sink"),
    ("198.18.0.1", "benchmarking"),
    ("198.19.255.255", "benchmarking"),
    ("198.51.100.1", "documentation"),
    ("203.0.113.1", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.250", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.254", "reserved"),
    ("255.255.255.255", "broadcast"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::2", "IPv4-compatible"),
    ("::127.0.0.1", "IPv4-compatible"),
    ("::8.8.8.8", "IPv4-compatible"),
    ("::ffff:127.0.0.1", "IPv4-mapped"),
    ("::ffff:8.8.8.8", "IPv4-mapped"),
    ("::ffff:0:127.0.0.1", "IPv4-translated"),
    ("64:ff9b::127.0.0.1", "NAT64"),
    ("64:ff9b::8.8.8.8", "NAT64"),
    ("64:ff9b:1::10.0.0.1", "NAT64"),
    ("64:ff9b:2::", "not global unicast"),
    ("100::1", "discard"),
    ("100:0:0:1::1", "dummy"),
    ("100:0:0:2::", "not global unicast"),
    ("200::1", "not global unicast"),
    ("400::1", "not global unicast"),
    ("1fff:ffff::", "not global unicast"),
    ("2001::1", "Teredo"),
    ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo"),
    ("2001:1::1", "protocol assignments"),
    ("2001:2::1", "benchmarking"),
    ("2001:3::1", "protocol assignments"),
    ("2001:4:112::1", "protocol assignments"),
    ("2001:10::1", "ORCHID"),
    ("2001:20::1", "ORCHID"),
    ("2001:30::1", "protocol assignments"),
    ("2001:1ff:ffff::", "protocol assignments"),
    ("2001:db8::1", "documentation"),
    ("2002:7f00:1::", "6to4"),
    ("2002:808:808::1", "6to4"),
    ("2620:4f:8000::1", "AS112 sink"),
    ("3fff::1", "documentation"),
    ("3fff:fff:ffff::", "documentation"),
    ("4000::1", "not global unicast"),
    ("5f00::1", "segment routing"),
    ("7fff::1", "not global unicast"),
    ("8000::1", "not global unicast"),
    ("fc00::1", "private"),
    ("fd00:ec2::254", "private"),  # a cloud's metadata
    ("fe00::1", "not global unicast"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("febf::1", "link-local"),
    ("fec0::1", "site-local"),
    ("ff02::1", "multicast"),
    ("ff0e::1", "multicast"),
    ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "multicast"),
]


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_pass(text: str) -> None:
    """Well-known ones, and the neighbours of those that are not public."""
    assert prohibited(ip_address(text)) is None


@pytest.mark.parametrize(("text", "name"), NOT_PUBLIC)
def test_others_are_refused_by_name(text: str, name: str) -> None:
    """The name is that of the smallest network."""
    assert prohibited(ip_address(text)) == name


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: str(network.addresses))
def test_networks_are_refused_from_end_to_end(network: Network) -> None:
    """Both ends are in it."""
    assert prohibited(network.addresses[0]) is not None
    assert prohibited(network.addresses[-1]) is not None


def test_a_part_stands_before_its_whole() -> None:
    """Otherwise its name would never be told."""
    for place, part in enumerate(NETWORKS):
        for before in NETWORKS[:place]:
            assert before.addresses.version != part.addresses.version or not part.addresses.subnet_of(before.addresses)  # type: ignore[arg-type]


def test_ipv6_is_refused_outside_global_unicast() -> None:
    """All of it, and 2000::/3 but for its few exceptions is not."""
    table = list(collapse_addresses(n.addresses for n in NETWORKS if isinstance(n.addresses, IPv6Network)))
    public = IPv6Network("2000::/3")
    inside = [network for network in table if network.subnet_of(public)]
    refused = sum(network.num_addresses for network in table if network not in inside)
    assert refused + public.num_addresses == 2**128
    assert sum(network.num_addresses for network in inside) < public.num_addresses // 1000


@settings(max_examples=2000)
@given(address=st.ip_addresses())
def test_it_is_stricter_than_the_standard_library(address: IPv4Address | IPv6Address) -> None:
    """Nothing passes that `ipaddress` calls private, multicast, reserved or the like."""
    if prohibited(address) is None:
        assert address.is_global
        assert not address.is_private
        assert not address.is_multicast
        assert not address.is_reserved
        assert not address.is_link_local
        assert not address.is_loopback
        assert not address.is_unspecified


@settings(max_examples=500)
@given(inner=st.ip_addresses(v=4), prefix=st.sampled_from(["::", "::ffff:0:0", "::ffff:0:0:0", "64:ff9b::"]))
def test_no_ipv4_address_hides_in_ipv6(inner: IPv4Address, prefix: str) -> None:
    """Not even a public one."""
    assert prohibited(IPv6Address(int(IPv6Address(prefix)) + int(inner))) is not None
    assert prohibited(IPv6Address((0x2002 << 112) + (int(inner) << 80))) == "6to4"
