"""Owns finding the addresses of a host that may be called: all of them public, or none is used.

Names are absolute: neither search domains nor /etc/hosts have a say. Whoever connects uses these addresses alone, so
what DNS says later changes nothing. Must not know which hosts are on the list.
"""

import asyncio
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver

from sovren_edge.gateway.egress.addresses import prohibited

TIMEOUT_S = 2.0
# Names that are looked up at once, and answers that are remembered for as long as they say.
AT_ONCE, REMEMBERED = 256, 4096

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class ResolveError(Exception):
    """A host without an address that may be used; `reason` is a word of RFC 9209, section 2.3."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Resolver:
    """Asks the system's DNS servers, or `server` (host:port); `exempt` are networks that are called all the same."""

    def __init__(self, server: str = "", exempt: Iterable[Network] = ()) -> None:
        self._dns = dns.asyncresolver.Resolver(configure=not server)
        if server:
            host, _, port = server.rpartition(":")
            self._dns.nameservers, self._dns.port = [host.strip("[]")], int(port)
        self._dns.lifetime = TIMEOUT_S
        self._dns.cache = dns.resolver.LRUCache(REMEMBERED)
        self._exempt = tuple(exempt)
        self._looking = 0

    async def resolve(self, host: str) -> tuple[Address, ...]:
        """Return all addresses of a host, IPv4 first; raises ResolveError."""
        if self._looking >= AT_ONCE:
            raise ResolveError("dns_error", "too many names are being looked up")
        self._looking += 1
        try:
            addresses = await self._look_up(host)
        finally:
            self._looking -= 1
        self.check(host, addresses)
        return addresses

    def check(self, host: str, addresses: Iterable[Address]) -> None:
        """Raise ResolveError if one of these addresses is not public."""
        for address in addresses:
            network = prohibited(address)
            if network is not None and not any(address in one for one in self._exempt):
                detail = f"{host} has the address {address}, which is not public ({network})"
                raise ResolveError("destination_ip_prohibited", detail)

    async def _look_up(self, host: str) -> tuple[Address, ...]:
        name = dns.name.from_text(host)  # absolute: no search domain is ever tried
        results = await asyncio.gather(*(self._ask(name, kind) for kind in ("A", "AAAA")), return_exceptions=True)
        found = [address for result in results if not isinstance(result, BaseException) for address in result]
        if not found:
            raise _failure(host, [result for result in results if isinstance(result, BaseException)])
        return tuple(found)

    async def _ask(self, name: dns.name.Name, kind: str) -> list[Address]:
        try:
            answer = await self._dns.resolve(name, kind, search=False)
        except dns.resolver.NoAnswer:
            return []
        return [ip_address(record.to_text()) for record in answer]


def _failure(host: str, errors: list[BaseException]) -> BaseException:
    """Return why there is no address; what is no fault of DNS is a fault of ours."""
    for error in errors:
        if not isinstance(error, dns.exception.DNSException | OSError):
            return error
    if any(isinstance(error, dns.exception.Timeout) for error in errors):
        return ResolveError("dns_timeout", f"DNS did not answer for {host} within {TIMEOUT_S:g} s")
    why = type(errors[0]).__name__ if errors else "no address"
    return ResolveError("dns_error", f"DNS has no address of {host} ({why})")
