"""Addresses of hosts that may be called: a real name server on loopback says what no honest one would."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network

import dns.rcode
import pytest

from sovren_edge.gateway.egress.resolver import ResolveError, Resolver
from tests.name_server import Names, name_server

HOST = "api.example.com"
AT_ONCE = 16
PUBLIC = ["93.184.216.34", "2606:2800:220:1::1"]


@pytest.fixture
async def names() -> AsyncIterator[Names]:
    """Serve names on a free port."""
    async with name_server() as server:
        yield server


def of(*addresses: str) -> dict[tuple[str, str], list[str]]:
    """Return the records of a host with these addresses."""
    records: dict[tuple[str, str], list[str]] = {}
    for address in addresses:
        records.setdefault((HOST, "AAAA" if ":" in address else "A"), []).append(address)
    return records


async def refusal(resolver: Resolver, host: str = HOST) -> str:
    """Return why a host has no address that may be used."""
    with pytest.raises(ResolveError) as caught:
        await resolver.resolve(host)
    return caught.value.reason


@pytest.mark.parametrize("addresses", [PUBLIC, PUBLIC[:1], PUBLIC[1:], ["1.1.1.1", "8.8.8.8"]])
async def test_public_addresses_are_all_returned(names: Names, addresses: list[str]) -> None:
    """Of both kinds, or of one."""
    names.records = of(*addresses)
    found = await Resolver(names.server).resolve(HOST)
    assert sorted(map(str, found)) == sorted(addresses)
    assert [address.version for address in found] == sorted(address.version for address in found)
    assert {asked.split()[0] for asked in names.asked} == {f"{HOST}."}, "no search domain is tried"


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "0.0.0.0", "169.254.169.254", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "240.0.0.1",
        "192.88.99.1", "::", "::1", "::ffff:10.0.0.1", "::ffff:93.184.216.34", "::127.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b:1::1", "2002:7f00:1::1", "2001:0:1::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1",
        "2001:db8::1", "3fff::1", "5f00::1", "100::1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("others", [[], PUBLIC], ids=["alone", "among public ones"])
async def test_one_address_that_is_not_public_refuses_all(names: Names, address: str, others: list[str]) -> None:
    """Whoever mixes them wants us to choose the wrong one."""
    names.records = of(*others, address)
    assert await refusal(Resolver(names.server)) == "destination_ip_prohibited"


async def test_an_alias_of_something_private_is_private(names: Names) -> None:
    """A CNAME is followed, and what it comes down to counts."""
    names.records = {(HOST, "CNAME"): ["inside.example.com."], ("inside.example.com", "A"): ["10.0.0.5"]}
    assert await refusal(Resolver(names.server)) == "destination_ip_prohibited"


async def test_what_was_public_once_is_looked_at_again(names: Names) -> None:
    """Between two look-ups the answer may turn: each is judged by itself."""
    resolver = Resolver(names.server)
    names.records = of(*PUBLIC)
    assert await resolver.resolve(HOST)
    names.records = of("127.0.0.1")
    assert await refusal(resolver) == "destination_ip_prohibited"


async def test_networks_that_are_exempt(names: Names) -> None:
    """A rehearsal calls this machine, and nothing else that is private."""
    resolver = Resolver(names.server, [ip_network("127.0.0.0/8")])
    names.records = of("127.0.0.1")
    assert await resolver.resolve(HOST) == (ip_address("127.0.0.1"),)
    names.records = of("127.0.0.1", "10.0.0.1")
    assert await refusal(resolver) == "destination_ip_prohibited"


async def test_a_name_without_an_address(names: Names) -> None:
    """Whether it does not exist, has other records, or the server is ill."""
    resolver = Resolver(names.server)
    assert await refusal(resolver) == "dns_error"
    names.records = {(HOST, "TXT"): ['"text"']}
    assert await refusal(Resolver(names.server)) == "dns_error"
    names.rcode = dns.rcode.SERVFAIL
    assert await refusal(Resolver(names.server)) == "dns_error"


async def test_a_dead_zone_delays_no_other(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """It times out by itself; beyond a limit, no more is waited for at once."""
    monkeypatch.setattr("sovren_edge.gateway.egress.resolver.TIMEOUT_S", 1.0)
    monkeypatch.setattr("sovren_edge.gateway.egress.resolver.AT_ONCE", AT_ONCE)
    resolver = Resolver(names.server)
    names.records = of(*PUBLIC)
    dead = [f"host-{number}.dead.example.com" for number in range(AT_ONCE)]
    names.dead = set(dead)
    waiting = [asyncio.create_task(refusal(resolver, host)) for host in dead[:-1]]
    assert await resolver.resolve(HOST)
    assert not any(task.done() for task in waiting)
    waiting.append(asyncio.create_task(refusal(resolver, dead[-1])))
    await asyncio.sleep(0)
    assert await refusal(resolver) == "dns_error"
    assert set(await asyncio.gather(*waiting)) == {"dns_timeout"}
    assert await resolver.resolve(HOST)
