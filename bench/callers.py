"""Call a proxy in ways that wrk cannot; what happened is printed as a line of JSON.

python callers.py streams PORT CONNECTIONS ANSWERS PATH   each connection asks again as soon as it is answered
python callers.py idle PORT CONNECTIONS                   ask once on each, say so, hold them until input ends
python callers.py posts PORT SECONDS BYTES KIND           post bodies (zeros, deep, lines) or hostile heads, one by one
"""

import asyncio
import json
import resource
import sys
import time
from dataclasses import asdict, dataclass

import uvloop

END = b"\r\n0\r\n\r\n"
BODIES = {"zeros": b"\0", "deep": b"[", "lines": b"\n"}


@dataclass
class Seen:
    """What came."""

    answers: int = 0
    received: int = 0
    failed: int = 0
    seconds: float = 0.0


async def stream(port: int, path: str, answers: int, seen: Seen) -> None:
    """Read chunked answers one after the other on one connection."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        for _ in range(answers):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
            tail = b""
            while not tail.endswith(END):
                data = await reader.read(1 << 20)
                if not data:
                    raise ConnectionError
                seen.received += len(data)
                tail = (tail + data)[-len(END) :]
            seen.answers += 1
        writer.close()
    except OSError:
        seen.failed += 1


async def streams(port: int, connections: int, answers: int, path: str) -> None:
    """Run all connections at once."""
    seen, began = Seen(), time.monotonic()
    share = answers // connections
    await asyncio.gather(*(stream(port, path, share, seen) for _ in range(connections)))
    seen.seconds = time.monotonic() - began
    print(json.dumps(asdict(seen)), flush=True)


async def idle(port: int, connections: int) -> None:
    """Hold connections that have been served once."""
    seen = Seen()
    held = []
    for _ in range(connections):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
            writer.write(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
            seen.answers += (await reader.read(4096)).startswith(b"HTTP/1.1 200")
            held.append((reader, writer))
        except OSError:
            seen.failed += 1
    print(json.dumps(asdict(seen)), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for _, writer in held:
        writer.close()


async def posts(port: int, seconds: float, size: int, kind: str) -> None:
    """Send the same thing again and again."""
    seen, began = Seen(), time.monotonic()
    hostile = b"GET / HTTP/1.1\r\nHost: bench\r\n" + b"a:\r\n" * (32_000 // 4) + b"\r\n"
    piece = BODIES.get(kind, b"") * min(size, 1 << 16)
    while (now := time.monotonic() - began) < seconds:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            if kind == "heads":
                writer.write(hostile)
            else:
                writer.write(
                    b"POST / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
                )
                for _ in range(size // len(piece)):
                    writer.write(piece)
                    await writer.drain()
            seen.received += len(await reader.read())
            seen.answers += 1
            writer.close()
        except OSError:
            seen.failed += 1
    seen.seconds = now
    print(json.dumps(asdict(seen)), flush=True)


async def main(kind: str, *more: str) -> None:
    """Call as asked."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if kind == "streams":
        await streams(int(more[0]), int(more[1]), int(more[2]), more[3])
    elif kind == "idle":
        await idle(int(more[0]), int(more[1]))
    else:
        await posts(int(more[0]), float(more[1]), int(more[2]), more[3])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
