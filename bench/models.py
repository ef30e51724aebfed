"""Owns the model endpoints behind every proxy: five ports, one process, a small answer to everything.

`SEEN` answers with the header fields that arrived, so that a caller learns what a proxy added. nginx serves them where
it is installed; otherwise this file does, as a program of its own: `python models.py PORT...`. Must not know proxies.
"""

import asyncio
import sys
from pathlib import Path
from typing import cast

import httptools
import orjson
import uvloop

PORTS = (19101, 19102, 19103, 19104, 19105)
SEEN = "/seen"
# Where nginx says how many requests it has had.
COUNT_PORT = 19100
FIELDS = ("via", "x-request-id", "x-forwarded-for")
ANSWER = b'{"ok":true}'

NGINX = """
daemon off; worker_processes 1; pid models.pid; error_log models.err warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; default_type application/json; keepalive_requests 1000000000; tcp_nodelay on;
  {temporary}
  server {{
    {listens}
    location = {seen} {{ return 200 '{{{echoed}}}'; }}
    location / {{ return 200 '{answer}'; }}
  }}
  server {{
    listen 127.0.0.1:{count_port};
    location / {{ stub_status; }}
  }}
}}
"""


def models_command(nginx: str | None, work: Path) -> list[str]:
    """Return the command that serves the endpoints, its configuration written to `work`."""
    if nginx is None:
        return [sys.executable, __file__, *map(str, PORTS)]
    path = work / "models.conf"
    path.write_text(
        NGINX.format(
            temporary=nginx_directories("models"),
            listens=" ".join(f"listen 127.0.0.1:{port};" for port in PORTS),
            seen=SEEN,
            count_port=COUNT_PORT,
            echoed=",".join(f'"{name}":"$http_{name.replace("-", "_")}"' for name in FIELDS),
            answer=ANSWER.decode(),
        )
    )
    return [nginx, "-p", str(work), "-c", str(path), "-e", str(work / "models.err")]


def nginx_directories(name: str) -> str:
    """Return nginx's settings that keep its temporary files beside its configuration: anybody may write there."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return " ".join(f"{kind}_temp_path {name}-{kind};" for kind in kinds)


class Model(asyncio.Protocol):
    """One connection to an endpoint; the methods named `on_` are the parser's."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._seen = dict.fromkeys(FIELDS, "")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; see asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read; see asyncio.Protocol."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Begin a request."""
        self._url = url
        self._seen = dict.fromkeys(FIELDS, "")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take note of a field that is asked about."""
        field = name.decode("latin-1").lower()
        if field in self._seen:
            self._seen[field] = value.decode("latin-1")

    def on_message_complete(self) -> None:
        """Answer a request."""
        if self._transport is None:
            return
        body = orjson.dumps(self._seen) if self._url == SEEN.encode() else ANSWER
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)
        if not self._parser.should_keep_alive():
            self._transport.close()


async def serve(ports: list[int]) -> None:
    """Serve the endpoints until the process is ended."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        for port in ports:
            server = await loop.create_server(Model, "127.0.0.1", port)
            group.create_task(server.serve_forever())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve([int(port) for port in sys.argv[1:]]))
