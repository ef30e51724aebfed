"""Measure the longest turn that hostile bytes can take from the worker's loop: no other caller is served meanwhile.

Drives the relay in this process, on the program's loop (which reads up to 256 KiB at once), and times each call of a
protocol's methods and each callback that they put off. Prints milliseconds of CPU by kind of input.
"""

import argparse
import asyncio
import gc
import json
import os
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network

import uvloop

from pools.endpoint import Endpoint
from pools.health import ProbeResult
from pools.pool import Pool
from pools.settings import PoolSettings
from pools.tiers import Tiers
from sovren_edge.auth.networks import Networks
from sovren_edge.listener import OwnPages
from sovren_edge.observe.log import Timestamps, open_log
from sovren_edge.observe.settings import LogSettings
from sovren_edge.observe.stats import ListenerStats
from sovren_edge.relay.downstream import Downstream
from sovren_edge.relay.fetch import Fetch
from sovren_edge.relay.journal import Journal
from sovren_edge.relay.relay import Door, Relay
from sovren_edge.relay.settings import RelaySettings
from sovren_edge.relay.upstream import Upstream
from sovren_edge.speech.serving import Speaking

MARK_MS = 2.0
EVERYBODY = Networks([ip_network("127.0.0.0/8")])
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
MEGABYTES = 1 << 20
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n"


def speech(text: str) -> bytes:
    """Return a request for speech; its words are `speech`, so that kinds are known by them."""
    body = json.dumps({"input": text, "voice": "a", "response_format": "wav"}).encode()
    return b"POST /v1/audio/speech HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def of_audio(kind: str, sound: bytes) -> bytes:
    """Return an answer that is audio."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: audio/%s\r\nContent-Length: %d\r\n\r\n%s" % (
        kind.encode(), len(sound), sound,
    )  # fmt: skip


WAV = (
    b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 24_000, 48_000, 2, 16) + b"data\xff\xff\xff\xff"
)
PARTS = "Please walk on. " * 40
# The shortest frames that mp3 knows: 24 bytes each, at 8 kbit/s and 24 kHz.
FRAME = b"\xff\xf3\x14\xc4" + bytes(20)
SILENCE = of_audio("wav", WAV + bytes(48_000))

# What a caller sends, and what the endpoint answers to each request.
KINDS: dict[str, tuple[bytes, bytes]] = {
    "a small GET": (GET + b"\r\n", OK),
    "a head of 32 KiB in 100 fields": (GET + (b"A: " + b"x" * 318 + b"\r\n") * 99 + b"\r\n", OK),
    "a head of 32 KiB in one field": (GET + b"A: " + b"\xff" * 32_600 + b"\r\n\r\n", OK),
    "a head of 32 KiB that is refused": (GET + b"A:\r\n" * 6_500 + b"\r\n", OK),
    "100 fields that are dropped": (GET + b"x-sovren-a: b\r\n" * 99 + b"\r\n", OK),
    "a Connection of 10,000 names": (GET + b"Connection: " + b"ab," * 10_000 + b"\r\n\r\n", OK),
    "a target of 8 KiB": (b"GET /" + b"x" * 8_191 + b" HTTP/1.1\r\nHost: a\r\n\r\n", OK),
    "500 KiB of a head that has no end": (GET + b"A: " + b"x" * 500_000, OK),
    "20,000 pipelined GETs": ((GET + b"\r\n") * 20_000, OK),
    "20,000 pipelined GETs of /health": (b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" * 20_000, OK),
    "5,000 pipelined refusals": (b"GET /refused HTTP/1.1\r\nHost: a\r\n\r\n" * 5_000, OK),
    "a body of 10 MB": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10485760\r\n\r\n" + b"x" * 10 * MEGABYTES, OK),
    "a body of 300,000 chunks of a byte": (POST + b"1\r\nx\r\n" * 300_000 + b"0\r\n\r\n", OK),
    "a body of 10,000 chunks of 64 bytes": (POST + (b"40\r\n" + b"x" * 64 + b"\r\n") * 10_000 + b"0\r\n\r\n", OK),
    "a body of 2,000 extensions of 4 KiB": (POST + (b"1;" + b"e" * 4_000 + b"\r\nx\r\n") * 2_000 + b"0\r\n\r\n", OK),
    "4,000 trailers": (POST + b"0\r\n" + b"A:\r\n" * 4_000 + b"\r\n", OK),
    "an answer of 10 MB": (GET + b"\r\n", SIZED + b"x" * 10 * MEGABYTES),
    "an answer of 300,000 chunks of a byte": (GET + b"\r\n", CHUNKED + b"1\r\nx\r\n" * 300_000 + b"0\r\n\r\n"),
    "10,000 interim answers": (GET + b"\r\n", b"HTTP/1.1 103 E\r\n\r\n" * 10_000 + OK),
    "speech of 60 KB in 10,000 sentences": (speech("Stay. " * 10_000), SILENCE),
    "speech of 60 KB in one sentence": (speech("words " * 10_000), SILENCE),
    "speech of 60 KB without a word": (speech("." * 60_000), SILENCE),
    "speech of 60 KB of line ends": (speech("\n" * 30_000), SILENCE),
    "speech of 60 KB of digits": (speech("1.1 " * 15_000), SILENCE),
    "speech of 60 KB in one word": (speech("x" * 60_000), SILENCE),
    "speech with a body of 60 KB that is no JSON": (
        b"POST /v1/audio/speech HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"[" * 60_000, SILENCE,
    ),
    "speech whose parts are wavs of 10 MB": (speech(PARTS), of_audio("wav", WAV + bytes(10 * MEGABYTES))),
    "speech whose parts are wavs of 5,000 chunks": (
        speech(PARTS), of_audio("wav", WAV[:36] + b"abcd\x02\0\0\0xx" * 5_000 + WAV[36:] + bytes(480)),
    ),
    "speech whose parts are mp3s of 400,000 frames": (
        speech(PARTS).replace(b'"wav"', b'"mp3"'), of_audio("mpeg", FRAME * 400_000),
    ),
}  # fmt: skip


class Turns:
    """The time of each turn, in milliseconds; what a turn calls belongs to it."""

    def __init__(self) -> None:
        self.took_ms: list[float] = []
        self._deep = False

    def time(self, call: Callable[..., object]) -> Callable[..., object]:
        """Time a call unless it is made by one that is timed."""

        def timed(*args: object, **named: object) -> object:
            if self._deep:
                return call(*args, **named)
            self._deep = True
            began = time.thread_time()
            try:
                return call(*args, **named)
            finally:
                self.took_ms.append((time.thread_time() - began) * 1000)
                self._deep = False

        return timed


def time_protocols(turns: Turns) -> None:
    """Time what the loop calls."""
    names = ("connection_made", "data_received", "eof_received", "pause_writing", "resume_writing", "connection_lost")
    # The last ones are private, but what the two hand to the loop.
    for protocol, late in ((Downstream, "_take_turn"), (Upstream, "_catch_up")):
        for name in (*names, late):
            setattr(protocol, name, turns.time(getattr(protocol, name)))


@asynccontextmanager
async def endpoint(answer: bytes) -> AsyncIterator[int]:
    """Answer each request with these bytes; bodies are told by their end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if b"chunked" in head:
                    await reader.readuntil(b"\r\n0\r\n\r\n")
                elif b"content-length: " in head:
                    await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=64 * MEGABYTES)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def relay(port: int, *, absent: bool, speaks: bool) -> AsyncIterator[int]:
    """Serve one endpoint behind one door, with everything on."""
    loop = asyncio.get_running_loop()
    one = Endpoint("e", "127.0.0.1", port, 4)
    settings = PoolSettings(endpoints=("set:1",), slots=4, kind="speech", interchangeable=True, coalesce=True)
    if not speaks:
        settings = PoolSettings(endpoints=("set:1",), slots=4)
    pool = Pool("p", settings, [one], roll=lambda _n: 0, jitter=lambda: 0.5)
    if absent:
        pool.enable(one, 0.0, enabled=False)
    else:
        pool.observe(one, ProbeResult.GOOD, 0.0)
    pages = OwnPages(b'{"status":"ok"}', {}, lambda: (), EVERYBODY)
    supplier = Speaking() if speaks else Fetch
    stats = ListenerStats("door", "door")
    door = Door("door", Tiers([pool]), pages, EVERYBODY, EVERYBODY, stats, supplier=supplier, reads_ahead=speaks)
    with open_log(LogSettings(path=os.devnull)) as (_, log):
        async with asyncio.TaskGroup() as group:
            journal = Journal(Timestamps(time.time), log.put)
            made = Relay(RelaySettings(), loop.time, lambda _n: 0, journal, group.create_task, lambda *_: None)
            made.stats_of(pool)
            server = await loop.create_server(lambda: Downstream(made, door, "127.0.0.1", lambda: None), "127.0.0.1", 0)
            sweeper = group.create_task(made.run())
            try:
                yield server.sockets[0].getsockname()[1]
            finally:
                server.close()
                made.close()
                sweeper.cancel()


async def call(port: int, sent: bytes) -> None:
    """Send bytes and read until nothing more comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4 * MEGABYTES)
    reading = asyncio.create_task(drain(reader))
    try:
        writer.write(sent)
        await writer.drain()
        await reading
    except ConnectionError:
        pass
    finally:
        reading.cancel()
        writer.transport.abort()


async def drain(reader: asyncio.StreamReader) -> None:
    """Read until the connection ends, or is quiet behind its first answer."""
    patience_s = 20.0
    try:
        while True:
            async with asyncio.timeout(patience_s):
                if not await reader.read(MEGABYTES):
                    return
            patience_s = 0.3
    except (TimeoutError, ConnectionError):
        return


async def measure(turns: Turns, kind: str, times: int) -> list[float]:
    """Return the longest turn of each of these times, in milliseconds."""
    sent, answer = KINDS[kind]
    worst = []
    for _ in range(times):
        how = {"absent": "refusals" in kind, "speaks": kind.startswith("speech")}
        async with endpoint(answer) as behind, relay(behind, **how) as port:
            gc.collect()
            turns.took_ms.clear()
            await call(port, sent)
            worst.append(max(turns.took_ms))
    return worst


async def report(times: int, only: str) -> dict[str, list[float]]:
    """Measure all kinds and print each."""
    turns = Turns()
    time_protocols(turns)
    gc.disable()
    found: dict[str, list[float]] = {}
    print(f"{'longest turn (ms)':44}{'median':>8}{'worst':>8}")
    for kind in KINDS:
        if only in kind:
            worst = sorted(await measure(turns, kind, times))
            found[kind] = worst
            print(f"{kind:44}{worst[len(worst) // 2]:8.2f}{worst[-1]:8.2f}")
    return found


def main() -> int:
    """Print the table; fail if a kind's median is over the mark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--only", default="", help="kinds that hold these words")
    parser.add_argument("--json", action="store_true", help="print the figures once more, for a program")
    options = parser.parse_args()
    found = uvloop.run(report(options.times, options.only))
    if options.json:
        print(json.dumps(found))
    slow = [kind for kind, worst in found.items() if worst[len(worst) // 2] > MARK_MS]
    print(f"over {MARK_MS:.0f} ms: {', '.join(slow) or 'none'}")
    return bool(slow)


if __name__ == "__main__":
    sys.exit(main())
