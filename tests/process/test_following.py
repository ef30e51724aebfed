"""Endpoints that DNS names: a real server on loopback, which a test changes as it likes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import dns.rcode
import pytest
import structlog
from harness import Front, backend, eventually, front
from structlog.testing import CapturingLogger
from test_relay import GET, OK

from pools.discovery import Found, LookupFailedError, follow, look_up, make_resolver
from pools.pool import Pool
from pools.probe import open_client
from pools.settings import DnsSettings, PoolSettings, ProbeSettings
from sovren_edge.process.following import Following
from tests.name_server import Names, name_server

NAME = "tts.example.com"
SERVICE = "_tts._tcp.example.com"


def asking(names: Names, name: str = NAME, port: int | None = 8100) -> DnsSettings:
    """Return settings that ask this server."""
    return DnsSettings(name=name, port=port, server=names.server)


@pytest.fixture
async def names() -> AsyncIterator[Names]:
    """Serve names on a free port."""
    async with name_server() as server:
        yield server


async def found(names: Names, name: str = NAME, port: int | None = 8100) -> tuple[set[Found], float]:
    """Look a name up once."""
    settings = asking(names, name, port)
    addresses, ttl_s = await look_up(settings, make_resolver(settings))
    return set(addresses), ttl_s


async def test_a_name_has_addresses_of_both_kinds(names: Names) -> None:
    """For as long as the answer says, within bounds."""
    names.records = {(NAME, "A"): ["10.0.0.1", "10.0.0.2"], (NAME, "AAAA"): ["2001:db8::1"]}
    names.ttl = 60
    expected = {Found("10.0.0.1", 8100), Found("10.0.0.2", 8100), Found("2001:db8::1", 8100)}
    assert await found(names) == (expected, 60.0)
    names.ttl = 0
    assert (await found(names))[1] == 1.0
    names.ttl = 100_000
    assert (await found(names))[1] == 300.0
    assert all(question.startswith(f"{NAME}. ") for question in names.asked), "no search domain is tried"


async def test_a_service_names_ports_and_weights(names: Names) -> None:
    """Of the best priority alone."""
    names.records = {
        (SERVICE, "SRV"): ["10 10 8100 a.example.com.", "10 5 8101 b.example.com.", "20 50 8102 c.example.com."],
        ("a.example.com", "A"): ["10.0.0.1"],
        ("b.example.com", "A"): ["10.0.0.2"],
        ("c.example.com", "A"): ["10.0.0.3"],
    }
    assert (await found(names, SERVICE, None))[0] == {Found("10.0.0.1", 8100, 1.0), Found("10.0.0.2", 8101, 0.5)}


async def test_a_name_that_does_not_exist_names_nobody(names: Names) -> None:
    """That is an answer; what is none is a failure."""
    assert (await found(names))[0] == set()
    assert (await found(names, SERVICE, None))[0] == set()
    names.rcode = dns.rcode.SERVFAIL
    with pytest.raises(LookupFailedError):
        await found(names)


@dataclass
class Clock:
    """Time that a test moves."""

    seconds: float = 0.0

    def __call__(self) -> float:
        """Return it."""
        return self.seconds


@asynccontextmanager
async def following(names: Names, port: int, log: CapturingLogger) -> AsyncIterator[tuple[Front, Pool, Clock]]:
    """Follow a name in front of whoever answers at its addresses."""
    settings = PoolSettings(
        kind="speech", slots=2, dns=asking(names, port=port), probe=ProbeSettings(path="/", interval_s=0.05)
    )
    pool = Pool("tts", settings, (), roll=lambda _n: 0, jitter=lambda: 0.5)
    clock = Clock()
    async with front(pool) as made, open_client() as probes, asyncio.TaskGroup() as group:
        bound = structlog.wrap_logger(log, processors=[])
        one = Following(made.relay, probes, group.create_task, bound, None)
        one.now = clock
        task = group.create_task(one.run(pool))
        try:
            yield made, pool, clock
        finally:
            task.cancel()


def events(log: CapturingLogger) -> list[str]:
    """Return what was logged."""
    return [str(call.kwargs["event"]) for call in log.calls]


def ready(pool: Pool) -> set[str]:
    """Return who is ready."""
    return {endpoint.name for endpoint in pool.endpoints if endpoint.ready}


async def test_endpoints_join_and_leave_as_dns_says(names: Names) -> None:
    """Who leaves ends its open requests first, and gets no new ones."""
    gate, log = asyncio.Event(), CapturingLogger()

    async def answer(head: bytes, _body: bytes) -> bytes:
        if b"GET /a" in head:
            await gate.wait()
        return OK

    async with backend(answer) as one:
        names.records = {(NAME, "A"): ["127.0.0.1"]}
        async with following(names, one.port, log) as (made, pool, clock):
            first = f"tts-127.0.0.1:{one.port}"
            await eventually(lambda: ready(pool) == {first})
            assert pool.probed
            call = asyncio.ensure_future(made.call(GET))
            await eventually(lambda: pool.inflight == 1)
            names.records = {(NAME, "A"): ["127.0.0.2"]}
            clock.seconds += 2.0
            await eventually(lambda: "endpoint_joined" in events(log)[1:])
            # Nobody else is ready yet: it serves on for a while.
            assert first in ready(pool)
            clock.seconds += 10.0
            await eventually(lambda: "endpoint_leaving" in events(log))
            assert first not in ready(pool)
            assert pool.inflight == 1
            names.records = {(NAME, "A"): ["127.0.0.1", "127.0.0.2"]}
            clock.seconds += 2.0
            await eventually(lambda: first in ready(pool))
            names.records = {(NAME, "A"): ["127.0.0.2"]}

            def has_left() -> bool:
                # An answer that has been asked for need not have been taken yet.
                clock.seconds += 1.0
                return first not in ready(pool)

            await eventually(has_left)
            gate.set()
            assert (await call).endswith(b"hello")
            await eventually(lambda: [each.name for each in pool.endpoints] == [f"tts-127.0.0.2:{one.port}"])
            assert list(made.relay.stats_of(pool).endpoints) == [f"tts-127.0.0.2:{one.port}"]
            assert events(log)[-1] == "endpoint_left"


async def test_what_an_operator_set_outlives_an_absence(names: Names) -> None:
    """One that was drained stays so when DNS names it again, whether it had left meanwhile or was still busy."""
    gate, log = asyncio.Event(), CapturingLogger()

    async def answer(head: bytes, _body: bytes) -> bytes:
        if b"GET /a" in head:
            await gate.wait()
        return OK

    async with backend(answer) as one:
        first = f"tts-127.0.0.1:{one.port}"
        names.records = {(NAME, "A"): ["127.0.0.1"]}
        async with following(names, one.port, log) as (made, pool, clock):

            async def named(*hosts: str) -> None:
                names.records = {(NAME, "A"): list(hosts)}
                asked = len(names.asked)
                clock.seconds += 2.0
                await eventually(lambda: len(names.asked) >= asked + 2)

            await eventually(lambda: ready(pool) == {first})
            call = asyncio.ensure_future(made.call(GET))
            await eventually(lambda: pool.inflight == 1)
            (endpoint,) = pool.endpoints
            made.relay.act(pool.enable(endpoint, made.relay.now(), enabled=False))
            made.relay.act(pool.resize(endpoint, 5, made.relay.now()))
            pool.weigh(endpoint, 0.25)
            await named("127.0.0.2")
            await eventually(lambda: "endpoint_leaving" in events(log))
            await named("127.0.0.1", "127.0.0.2")
            await eventually(lambda: events(log).count("endpoint_joined") == 3)
            assert endpoint.named
            assert not endpoint.ready
            await named("127.0.0.2")
            gate.set()
            assert (await call).endswith(b"hello")
            await eventually(lambda: "endpoint_left" in events(log))
            await named("127.0.0.1", "127.0.0.2")
            await eventually(lambda: events(log).count("endpoint_joined") == 4)
            (back,) = [each for each in pool.endpoints if each.name == first]
            await eventually(lambda: back.health.healthy)
            assert back is not endpoint
            assert (back.enabled, back.ready, back.slots, back.weight) == (False, False, 5, 0.25)
            assert log.calls[-1].kwargs["enabled"] is False
            made.relay.act(pool.enable(back, made.relay.now(), enabled=True))
            assert back.ready


@pytest.mark.parametrize("outage", ["servfail", "nobody"])
async def test_an_outage_removes_nobody(names: Names, outage: str) -> None:
    """Nor does an answer that names nobody; it is told once."""
    log = CapturingLogger()
    async with backend(lambda _h, _b: OK) as one:
        names.records = {(NAME, "A"): ["127.0.0.1"]}
        async with following(names, one.port, log) as (made, pool, clock):
            await eventually(lambda: ready(pool))
            names.rcode = dns.rcode.SERVFAIL if outage == "servfail" else dns.rcode.NOERROR
            names.records = {} if outage == "nobody" else names.records
            enough = len(names.asked) + 6

            def asked_enough() -> bool:
                clock.seconds += 1.0
                return len(names.asked) >= enough

            await eventually(asked_enough, 15.0)
            assert (await made.call(GET)).endswith(b"hello")
            await eventually(lambda: "discovery_failed" in events(log))
            assert events(log).count("discovery_failed") == 1


async def test_before_dns_has_been_asked_nothing_is_known(names: Names) -> None:
    """The first round of probes is not over."""
    pool = Pool("tts", PoolSettings(dns=asking(names)), (), lambda _n: 0, float)
    assert not pool.probed
    assert callable(follow)
