"""A chat model's server, byte by byte: what it sends, when, and when it hangs up is the test's."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias

from tests.relay.harness import eventually, read_request

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


class Act(Enum):
    """What else than bytes: hold the connection until the caller ends it, or break it."""

    HOLD = auto()
    BREAK = auto()


@dataclass(frozen=True)
class Again:
    """Send this again and again, until the caller ends the connection."""

    what: bytes


Part: TypeAlias = bytes | Act | Again | asyncio.Event
Script: TypeAlias = Sequence[Part]


def sent(data: bytes) -> bytes:
    """Return data as one chunk of a body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def events(*datas: str) -> list[Part]:
    """Return an answer's head and these events."""
    return [HEAD, *(sent(f"data: {data}\n\n".encode()) for data in datas)]


def status(line: str, *fields: str, body: bytes = b"") -> Script:
    """Return an answer with a status of its own."""
    head = [f"HTTP/1.1 {line}", "Connection: close", *fields, f"Content-Length: {len(body)}", "", ""]
    return ["\r\n".join(head).encode() + body]


@dataclass
class Wire:
    """`scripts` are played one a connection, the last one again and again; `left` counts callers that hung up first."""

    url: str
    scripts: list[Script]
    asked: list[tuple[bytes, bytes]] = field(default_factory=list)
    left: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Play to one caller."""
        try:
            self.asked.append(await read_request(reader))
            for part in self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]:
                await self._play(part, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left += 1
        finally:
            writer.close()

    async def _play(self, part: Part, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match part:
            case bytes():
                writer.write(part)
                await writer.drain()
            case asyncio.Event():
                await part.wait()
            case Again():
                while not reader.at_eof():
                    await self._play(part.what, reader, writer)
                    await asyncio.sleep(0.005)
                self.left += 1
            case Act.HOLD:
                await reader.read()
                self.left += 1
            case Act.BREAK:
                writer.transport.abort()

    async def heard(self, requests: int = 1) -> None:
        """Wait until so much was asked."""
        await eventually(lambda: len(self.asked) >= requests)


@asynccontextmanager
async def wire(*scripts: Script, port: int = 0) -> AsyncIterator[Wire]:
    """Serve until the block ends, on a free port where none is given."""
    playing = Wire("", list(scripts))
    server = await asyncio.start_server(playing.serve, "127.0.0.1", port)
    host, bound = server.sockets[0].getsockname()
    playing.url = f"http://{host}:{bound}/v1"
    async with server:
        yield playing
