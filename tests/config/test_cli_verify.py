"""`verify` asks real servers on free ports, and one wrong byte fails it."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner, Result

from sovren_edge.cli import main

LISTENER = '[listeners.{name}]\nkind = "status"\nport = {port}\nauth = "none"\n'


def _server(body: str, status: int = 200) -> TestServer:
    async def health(_: web.Request) -> web.Response:
        return web.Response(text=body, status=status)

    app = web.Application()
    app.router.add_get("/health", health)
    return TestServer(app)


async def _verify(tmp_path: Path, ports: dict[str, int | None], *words: str) -> Result:
    path = tmp_path / "config.toml"
    path.write_text("".join(LISTENER.format(name=name, port=port) for name, port in ports.items()), encoding="utf-8")
    return await asyncio.to_thread(CliRunner().invoke, main, ["verify", "--config", str(path), *words])


def _rows(result: Result) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(result.stdout)}


async def test_exact_answers_pass(tmp_path: Path) -> None:
    """All of them, and the status is 0."""
    async with _server('{"status":"ok","service":"a"}') as a, _server('{"status":"ok","service":"b"}') as b:
        ports = {"a": a.port, "b": b.port}
        result = await _verify(tmp_path, ports)
    health = {name: f'{{"status":"ok","service":"{name}"}}' for name in ports}
    assert result.exit_code == 0
    assert sorted(line.split() for line in result.stdout.splitlines()[1:]) == sorted(
        [str(port), name, health[name], health[name], "yes"] for name, port in ports.items()
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"status": "ok","service":"a"}', 200),
        ('{"status":"ok","service":"a"}\n', 200),
        ('{"status":"ok"}', 200),
        ('{"status":"ok","service":"a"}', 503),
        ("x" * 100_000, 200),
    ],
)
async def test_one_wrong_byte_or_status_fails(tmp_path: Path, body: str, status: int) -> None:
    """What was found is shown, but not all of what a stranger says."""
    async with _server(body, status) as a, _server('{"status":"ok","service":"b"}') as b:
        ports = {"a": a.port, "b": b.port}
        result = await _verify(tmp_path, ports, "--json")
    rows = _rows(result)
    assert (result.exit_code, rows["a"]["ok"], rows["b"]["ok"]) == (1, False, True)
    assert rows["a"] | {"found": ""} == {
        "port": ports["a"],
        "name": "a",
        "expected": '{"status":"ok","service":"a"}',
        "found": "",
        "ok": False,
    }
    assert len(rows["a"]["found"]) < 100
    assert status == 200 or rows["a"]["found"].startswith("503 ")


async def test_a_port_that_nobody_opens_is_unreachable(tmp_path: Path) -> None:
    """Bound by us, so that nobody else can, and not listened on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        result = await _verify(tmp_path, {"a": bound.getsockname()[1]}, "--json")
    assert (result.exit_code, _rows(result)["a"]["found"]) == (1, "unreachable (Connection refused)")


async def test_a_server_that_is_no_http_fails(tmp_path: Path) -> None:
    """In a word, not in a traceback."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        result = await _verify(tmp_path, {"a": server.sockets[0].getsockname()[1]}, "--json")
    assert (result.exit_code, _rows(result)["a"]["found"]) == (1, "unreachable (ServerDisconnectedError)")


async def test_another_machine_and_moved_ports(tmp_path: Path) -> None:
    """`--host` asks elsewhere, `--port-offset` where `serve` with the same one listens."""
    async with _server('{"status":"ok","service":"a"}') as a:
        result = await _verify(
            tmp_path, {"a": (a.port or 0) - 7}, "--host", "localhost", "--local", "--port-offset", "7"
        )
    assert result.exit_code == 0
