"""Owns the table of networks that are not the public internet: nothing is ever sent to an address in one of them.

It is stricter than `ipaddress.is_global`, which calls multicast, 6to4, NAT64 and others global. Must not know names,
DNS or sockets.

Sources: IANA's special-purpose address registries for IPv4 and IPv6 (RFC 6890), its IPv6 address space (RFC 4291).
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network


@dataclass(frozen=True, slots=True)
class Network:
    """Addresses that are not public, and what they are for."""

    addresses: IPv4Network | IPv6Network
    name: str


# The first that an address lies in names it, so a part stands before its whole.
NETWORKS = tuple(
    Network(ip_network(addresses), name)
    for addresses, name in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by carriers"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        # With all its parts: DS-Lite, the dummy address, PCP and TURN anycast, NAT64 discovery.
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "AS112 sink"),
        ("192.52.193.0/24", "AMT relay"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "AS112 sink"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        # Addresses that hold an IPv4 address are refused whatever that one is: a resolver of public names has no need
        # of them, and where they lead is decided by somebody else's translator.
        ("::/96", "IPv4-compatible"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("100::/64", "discard"),
        ("100:0:0:1::/64", "dummy"),
        ("2001::/32", "Teredo"),
        ("2001:2::/48", "benchmarking"),
        ("2001:10::/28", "ORCHID"),
        ("2001:20::/28", "ORCHID"),
        ("2001::/23", "protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("2620:4f:8000::/48", "AS112 sink"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
        # Only 2000::/3 is global unicast: these three are all that lies before and behind it.
        ("::/3", "not global unicast"),
        ("4000::/2", "not global unicast"),
        ("8000::/1", "not global unicast"),
    )
)


def prohibited(address: IPv4Address | IPv6Address) -> str | None:
    """Return the name of the network that an address lies in; None if it is public."""
    return next((network.name for network in NETWORKS if address in network.addresses), None)
