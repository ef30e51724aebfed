"""Measure how soon a caller that leaves is gone upstream: before the answer, and during it.

Owns both sides: callers that close, and endpoints that note when their connection ends; the edge stands between.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from models import PORTS
from processes import BenchError, require_free, started
from proxies import edge_proxy

TIMES = 200


class Endpoints:
    """Endpoints that begin an answer, or do not, and then wait for the connection's end."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.gone_at: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET / "):  # a probe
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.close()
            return
        if head.startswith(b"GET /during "):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        self.reached.set()
        try:
            while await reader.read(4096):
                pass
        except ConnectionError:
            pass
        finally:
            self.gone_at.set_result(time.monotonic())
            writer.close()


async def leave(endpoints: Endpoints, port: int, when: str) -> float:
    """Call, leave, and return how long the endpoint went on (milliseconds)."""
    endpoints.reached.clear()
    endpoints.gone_at = asyncio.get_running_loop().create_future()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /{when} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await endpoints.reached.wait()
    if when == "during":
        await reader.readuntil(b"\r\n\r\n")
    left_at = time.monotonic()
    writer.close()
    return (await endpoints.gone_at - left_at) * 1000


async def until_ready(port: int) -> None:
    """Wait until the edge has seen its endpoints."""
    for _ in range(400):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)
            continue
        writer.write(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        if b" 200 " in (await reader.read())[:20]:
            return
    raise BenchError("the edge did not become ready")


async def measure(port: int) -> None:
    """Print what was measured."""
    endpoints = Endpoints()
    servers = [await asyncio.start_server(endpoints.serve, "127.0.0.1", one) for one in PORTS]
    await until_ready(port)
    async with asyncio.timeout(120):
        print("| a caller leaves | p50 ms | p99 ms | max ms |\n|---|--:|--:|--:|")
        for when in ("before", "during"):
            taken = sorted([await leave(endpoints, port, when) for _ in range(TIMES)])
            print(f"| {when} the answer | {statistics.median(taken):.2f} | {taken[-3]:.2f} | {taken[-1]:.2f} |")
    for server in servers:
        server.close()


def main() -> None:
    """Start the edge, and measure."""
    with tempfile.TemporaryDirectory(prefix="sovren-edge-bench-") as directory:
        proxy = edge_proxy(Path(directory))
        require_free((*PORTS, proxy.port))
        with started(proxy.command, 0, proxy.output):
            asyncio.run(measure(proxy.port))


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"bench: {error}")
