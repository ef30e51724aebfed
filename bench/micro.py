"""Time the relay's Python alone: no socket, no system call, transports that drop what they get.

Prints microseconds of CPU a request, and of its parts. What a design choice costs shows here before it shows in a race.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable
from ipaddress import ip_network
from typing import Literal, cast

from timing import microseconds

from pools.admission import SUCCEEDED, Lease
from pools.endpoint import Endpoint
from pools.health import ProbeResult
from pools.pool import Pool
from pools.settings import PoolSettings
from pools.tiers import Tiers
from sovren_edge.auth.networks import Networks
from sovren_edge.http.remembered import Remembered
from sovren_edge.http.request import Caller, forward_request, parse_request
from sovren_edge.http.response import parse_response
from sovren_edge.listener import OwnPages
from sovren_edge.observe.log import LogWriter, Timestamps
from sovren_edge.observe.log_file import open_log_file
from sovren_edge.observe.stats import Histogram, ListenerStats
from sovren_edge.relay.downstream import Downstream
from sovren_edge.relay.fetch import Fetch
from sovren_edge.relay.journal import Journal
from sovren_edge.relay.relay import Door, Relay
from sovren_edge.relay.settings import RelaySettings
from sovren_edge.relay.upstream import Upstream
from sovren_edge.speech.serving import Speaking

GET = b"GET /v1/speech HTTP/1.1\r\nHost: 127.0.0.1:19500\r\n\r\n"
BODY = b'{"model":"tts-1","input":"The board meets at nine; the figures are ready.","voice":"alloy"}'
POST = (
    b"POST /v1/speech HTTP/1.1\r\nHost: 127.0.0.1:19500\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n"
    b"Accept-Encoding: gzip, deflate\r\nAccept-Language: en-GB,en;q=0.9\r\nX-Session-Id: 4f1c2a9e-7d35\r\n"
    b"Authorization: Bearer 00000000000000000000000000000000\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sun, 22 Nov 2026 22:32:40 GMT\r\n"
    b"Content-Type: application/json\r\nContent-Length: 11\r\nConnection: keep-alive\r\n\r\n" + b'{"ok":true}'
)
EVERYBODY = Networks([ip_network("127.0.0.0/8")])
TRACE = b"\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
REQUESTS = 20_000


class Nowhere:
    """A transport that drops what is written, and a socket that takes every option."""

    def write(self, data: bytes) -> None:
        """Drop bytes."""

    def set_write_buffer_limits(self, high: int) -> None:
        """Know no limit."""

    def get_extra_info(self, _name: str) -> "Nowhere":
        """Be the socket, too."""
        return self

    def setsockopt(self, *option: int) -> None:
        """Take an option."""

    def get_write_buffer_size(self) -> int:
        """Have nothing left."""
        return 0

    def is_closing(self) -> bool:
        """Stay open."""
        return False


def make_pool(kind: Literal["generic", "speech"] = "generic", *, interchangeable: bool = False) -> Pool:
    """Make five endpoints that are ready."""
    endpoints = [Endpoint(f"model-0{n}", "127.0.0.1", 19100 + n, 1000) for n in range(1, 6)]
    speech = kind == "speech"
    settings = PoolSettings(
        endpoints=("set:1",), kind=kind, repeatable=speech, interchangeable=interchangeable and speech
    )
    pool = Pool("model", settings, endpoints, lambda n: int(random.random() * n), random.random)
    for endpoint in endpoints:
        pool.observe(endpoint, ProbeResult.GOOD, 0.0)
    return pool


def make_caller(pool: Pool, writer: LogWriter) -> tuple[Downstream, list[Upstream]]:
    """Make a relay with one caller, and one idle connection to each endpoint."""
    relay = Relay(
        RelaySettings(), time.monotonic, lambda n: int(random.random() * n), Journal(Timestamps(time.time), writer.put),
        asyncio.get_running_loop().create_task, lambda *_: None,
    )  # fmt: skip
    pages = OwnPages(b"{}", {}, lambda: (), EVERYBODY)
    speech = pool.settings.kind == "speech"
    supplier = Speaking() if speech else Fetch
    stats = ListenerStats("relay", "relay", speech=speech)
    door = Door("relay", Tiers([pool]), pages, EVERYBODY, EVERYBODY, stats, supplier=supplier)
    caller = Downstream(relay, door, "127.0.0.1", lambda: None)
    caller.connection_made(cast("asyncio.Transport", Nowhere()))
    ups = [Upstream(endpoint, relay.connections) for endpoint in pool.endpoints]
    for up in ups:
        up.connection_made(cast("asyncio.Transport", Nowhere()))
        relay.connections.give_back(up)
    return caller, ups


def single(pool: Pool) -> dict[str, Callable[[], object]]:
    """Return a request's parts that can be called alone."""
    head, answer = POST.partition(b"{")[0], ANSWER.partition(b"{")[0]
    read, request = Remembered(lambda data: parse_request(data, trusted=True)), parse_request(head, trusted=True)
    caller, histogram = Caller(b"127.0.0.1", b"http"), Histogram()

    def lease() -> None:
        pool.release(cast("Lease", pool.admit(None, 0.0)), SUCCEEDED, 0.0)

    return {
        "read a head with nine fields": lambda: parse_request(head, trusted=True),
        "read it again": lambda: read[head[:-1] + b"\n"],
        "write it for the endpoint": lambda: forward_request(
            request,
            caller=caller,
            endpoint=b"127.0.0.1:19101",
            body_size=len(BODY),
            request_id=b"id-1",
            trace=request.trace,
        ),
        "read an answer's head": lambda: parse_response(answer),
        "lease and release one of five": lease,
        "observe a duration": lambda: histogram.observe(0.0004),
    }


async def main() -> None:
    """Print the table."""
    writer = LogWriter(open_log_file(os.devnull), readable=False)
    pool, speech, parts = make_pool(), make_pool("speech"), make_pool("speech", interchangeable=True)
    spoken = POST.replace(b"/v1/speech", b"/v1/audio/speech", 1)

    def exchange(request: bytes, pool: Pool) -> Callable[[], None]:
        caller, ups = make_caller(pool, writer)

        def once() -> None:
            caller.data_received(request)
            for up in ups:
                if up.served is not None:
                    up.data_received(ANSWER)

        return once

    for name, request, asked in (
        ("a small GET", GET, pool),
        ("a small POST, nine fields", POST, pool),
        ("the same, for speech", spoken, speech),
        ("the same, where it may be in parts", spoken, parts),
    ):
        print(f"{name:34} {microseconds(exchange(request, asked), REQUESTS):6.2f} µs", flush=True)
    for name, work in single(pool).items():
        print(f"{name:34} {microseconds(work, REQUESTS):6.2f} µs", flush=True)
    writer.close()


if __name__ == "__main__":
    asyncio.run(main())
