"""Owns how an endpoint is written, `host:port` or `node:port`, and how a service's URL is.

Must not know what listens there, nor look a name up.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from sovren_edge.config.fault import nearest

LOOPBACK = "127.0.0.1"
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*", re.IGNORECASE)
_WRITTEN = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[^\[\]:]*)):(?P<port>[0-9]{1,5})")
_URL = re.compile(r"http(?P<tls>s)?://(?P<host>\[[^\[\]]*\]|[^\[\]:/@?#]*)(:(?P<port>[0-9]{1,5}))?(/[^\s?#]*)?(?<!/)")
MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """A host (an IP address without brackets, or a name) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        """As it is written in a configuration."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_endpoint(text: str, nodes: Mapping[str, str]) -> Address:
    """Return the address that `text` names, a node's name replaced by its address; ValueError says what is wrong."""
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise ValueError("an endpoint is a host or node and a port, as in g367:8100, 10.0.0.1:80 or [::1]:80")
    port = int(match["port"])
    if not 1 <= port <= MAX_PORT:
        raise ValueError(f"a port is a number from 1 to {MAX_PORT}")
    host = str(IPv6Address(match["v6"])) if match["v6"] is not None else _resolve(match["host"], nodes)
    return Address(host, port)


def parse_service(url: str) -> Address:
    """Return where a service's URL leads; ValueError says what is wrong with it."""
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError(
            "http or https, a host, and a port and a path where they are needed, as in http://10.0.0.1:8000 or"
            " https://[::1]/models; no slash at its end, no user, no query"
        )
    return parse_endpoint(f"{match['host']}:{match['port'] or (443 if match['tls'] else 80)}", {})


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine's loopback, by its address or as `localhost`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _resolve(host: str, nodes: Mapping[str, str]) -> str:
    if host in nodes:
        return nodes[host]
    if re.fullmatch(r"[0-9.]+", host):
        return str(ip_address(host))
    if not _HOST.fullmatch(host):
        raise ValueError("a host is a node, an IP address or a name of letters, digits, hyphens and dots")
    # A bare word beside a table of nodes is far more often a misspelt node than a host of that name.
    if nodes and "." not in host and host.lower() != "localhost":
        raise ValueError(f"unknown node {host}; {nearest(host, nodes) or 'a host that is no node needs its full name'}")
    return host
