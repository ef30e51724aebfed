"""Serve model endpoints that stream: `/big` is 1 MB in chunks of 16 KiB at once, `/slow` 30 KB over some seconds.

`python streamer.py PORT...`; everything else gets a small answer.
"""

import asyncio
import sys
from typing import cast

import uvloop

CHUNK = b"4000\r\n" + b"x" * 16384 + b"\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
BIG = HEAD + CHUNK * 64 + b"0\r\n\r\n"
PIECE = b"400\r\n" + b"x" * 1024 + b"\r\n"
PIECES, PAUSE_S = 30, 0.2
SMALL = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n" + b'{"ok":true}'


class Endpoint(asyncio.Protocol):
    """One connection; a body is passed over until the next head comes."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.skip = 0
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer a head when its body has come."""
        if self.skip > len(data):
            self.skip -= len(data)
            return
        if self.skip:
            data, self.skip = data[self.skip :], 0
            self.answer(b"POST /")
        self.data += data
        while (end := self.data.find(b"\r\n\r\n") + 4) > 3:
            head, rest = self.data[:end], self.data[end:]
            size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or b"0")
            if size > len(rest):
                self.skip, self.data = size - len(rest), b""
                return
            self.data = rest[size:]
            self.answer(head)

    def answer(self, head: bytes) -> None:
        """Write what was asked for."""
        if self.transport is None:
            return
        if head.startswith(b"GET /slow"):
            self.transport.write(HEAD)
            self.drip(PIECES)
        else:
            self.transport.write(BIG if head.startswith(b"GET /big") else SMALL)

    def drip(self, left: int) -> None:
        """Write one piece, and the next one later."""
        if self.transport is None or self.transport.is_closing():
            return
        self.transport.write(PIECE if left else b"0\r\n\r\n")
        if left:
            asyncio.get_running_loop().call_later(PAUSE_S, self.drip, left - 1)


async def serve(ports: list[int]) -> None:
    """Serve until the process is ended."""
    for port in ports:
        await asyncio.get_running_loop().create_server(Endpoint, "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve([int(port) for port in sys.argv[1:]]))
