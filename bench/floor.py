"""Forward requests and do nothing else that a proxy does: what Python and uvloop cost at the least.

Heads are fixed, bytes are not read, nobody is counted. `python floor.py PORT ENDPOINT_PORT...`
"""

import asyncio
import itertools
import sys
from typing import cast

import uvloop

REQUEST = b"GET /v1/speech HTTP/1.1\r\nHost: floor\r\n\r\n"


class Up(asyncio.Protocol):
    """A connection to an endpoint; one request at a time."""

    def __init__(self, idle: "list[Up]") -> None:
        self.idle = idle
        self.down: Down | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass the answer on."""
        down, self.down = self.down, None
        self.idle.append(self)
        if down is not None and down.transport is not None:
            down.transport.write(data)


class Down(asyncio.Protocol):
    """A caller's connection."""

    def __init__(self, idle: list[Up], ports: "itertools.cycle[int]", tasks: set[asyncio.Task[None]]) -> None:
        self.idle, self.ports, self.tasks = idle, ports, tasks
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, _data: bytes) -> None:
        """Send the one request that there is."""
        if self.idle:
            self.send(self.idle.pop())
        else:
            task = asyncio.get_running_loop().create_task(self.connect())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def connect(self) -> None:
        """Open one more connection."""
        loop = asyncio.get_running_loop()
        _, up = await loop.create_connection(lambda: Up(self.idle), "127.0.0.1", next(self.ports))
        self.send(up)

    def send(self, up: Up) -> None:
        """Write the request."""
        up.down = self
        if up.transport is not None:
            up.transport.write(REQUEST)


async def serve(port: int, endpoints: list[int]) -> None:
    """Serve until the process is ended."""
    idle, ports, tasks = list[Up](), itertools.cycle(endpoints), set[asyncio.Task[None]]()
    server = await asyncio.get_running_loop().create_server(lambda: Down(idle, ports, tasks), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), [int(port) for port in sys.argv[2:]]))
