"""Traces through the whole program: from a caller to a handler, from there to a balanced port, and on to an engine."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiohttp
import orjson
import pytest
from program import Program, run, serve, until

from tests.collector import Collector, collecting
from tests.ports import free_port

ANNOUNCER = '''
import contextlib
from sovren_edge.handler import Handler, route


class Announcer(Handler):
    """Speak by way of a port of speech."""

    @contextlib.asynccontextmanager
    async def open(self, edge):
        async def announce(name: str, key: str = "") -> dict[str, int]:
            body = {"input": f"Welcome, {name}.", "voice": "alloy", "response_format": "pcm"}
            async with edge.http.post(edge.url("tts") + "/v1/audio/speech", json=body) as spoken:
                return {"bytes": len(await spoken.read())}

        yield [route.post("/announce/{name}", announce)]
'''
CONFIG = """
[edge]
bind = "127.0.0.1"

[pools.tts]
kind = "speech"
endpoints = ["127.0.0.1:{engine}"]

[listeners.tts]
kind = "balance"
port = 8200
pool = "tts"

[listeners.metrics]
kind = "status"
port = 8097

[listeners.announcer]
kind = "handler"
port = 8600
handler = "announcer"
"""
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = f"00-{TRACE}-{PARENT}-01"


@dataclass
class Engine:
    """What an engine was told by requests for speech."""

    port: int = 0
    told: list[str] = field(default_factory=list)


@contextmanager
def engine() -> Iterator[Engine]:
    """Serve an engine that answers everything with two samples."""
    state = Engine()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if self.command == "POST":
                state.told.append(self.headers.get("traceparent", ""))
            self.send_response(200)
            self.send_header("Content-Type", "audio/pcm")
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"abcd")

        do_POST = do_GET  # noqa: N815 - http.server's name

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the handler."""
    site = tmp_path_factory.mktemp("site")
    info = site / "announcer-1.0.dist-info"
    info.mkdir()
    (site / "announcer_handler.py").write_text(ANNOUNCER, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: announcer\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[sovren_edge.handlers]\nannouncer = announcer_handler:Announcer\n")
    return site


@contextmanager
def serving(site: Path, folder: Path, engine: Engine, tracing: str = "") -> Iterator[Program]:
    """Run the program."""
    config = folder / "config.toml"
    config.write_text(CONFIG.format(engine=engine.port) + tracing, encoding="utf-8")
    with serve(folder / "state", "--config", str(config), env={"PYTHONPATH": str(site)}) as program:
        yield program


def tracing(collector: Collector) -> str:
    """Return what turns spans on."""
    return f'\n[tracing]\nendpoint = "{collector.endpoint}"\n'


async def announce(program: Program, **headers: str) -> None:
    """Call the handler."""
    url = f"http://127.0.0.1:{8600 + program.offset}/announce/Ada?key=hunter2"
    async with aiohttp.ClientSession() as http, http.post(url, headers=headers) as answer:
        assert (answer.status, await answer.json()) == (200, {"bytes": 4})


def traces_of(program: Program, count: int) -> list[str]:
    """Return the traces in the access log, when so many requests are in it."""

    def lines() -> list[str]:
        return [line for line in program.text.splitlines(keepends=True) if '"event":"request"' in line]

    until(lambda: len(lines()) == count and lines()[-1].endswith("\n"))
    return [orjson.loads(line)["trace_id"] for line in lines()]


async def test_from_the_caller_to_the_engine_it_is_one_trace(site: Path, tmp_path: Path) -> None:
    """Each span is below the one that asked, over two processes of ours; no secret is in any."""
    with collecting() as collector, engine() as spoken, serving(site, tmp_path, spoken, tracing(collector)) as program:
        await announce(program, traceparent=GIVEN, Authorization="Bearer hunter2")
        collector.wait_for(lambda: len(collector.spans) == 4)
        handler, call, relay, attempt = collector.chain(PARENT)
        assert [(span.name, span.kind) for span in (handler, call, relay, attempt)] == [
            ("POST /announce/{name}", "server"), ("POST", "client"), ("POST", "server"), ("POST", "client"),
        ]  # fmt: skip
        assert {span.trace_id for span in collector.spans} == {TRACE}
        assert spoken.told == [f"00-{TRACE}-{attempt.span_id}-01"]
        assert (handler.attributes["sovren.listener"], relay.attributes["sovren.listener"]) == ("announcer", "tts")
        assert handler.attributes["http.route"] == "/announce/{name}"
        assert "Ada" not in repr(handler.attributes)
        assert call.attributes["server.port"] == 8200 + program.offset
        assert call.attributes["http.response.status_code"] == 200
        workers = {str(span.resource["service.instance.id"]).split("/")[1] for span in collector.spans}
        assert workers == {"handlers", "balance"}
        assert traces_of(program, 2) == [TRACE, TRACE]
        assert b"hunter2" not in b"".join(collector.posts)
        assert "hunter2" not in program.text


async def test_without_a_collector_it_is_one_trace_all_the_same(site: Path, tmp_path: Path) -> None:
    """The caller's, or one that begins at the handler; the log has it."""
    with engine() as spoken, serving(site, tmp_path, spoken) as program:
        await announce(program, traceparent=GIVEN)
        await announce(program)
        traces = traces_of(program, 4)
        assert traces.count(TRACE) == 2
        assert len(set(traces)) == 2
        assert spoken.told[0] == GIVEN
        assert spoken.told[1].split("-")[1] == next(trace for trace in traces if trace != TRACE)


async def test_a_dead_collector_is_told_of_and_harms_nobody(site: Path, tmp_path: Path) -> None:
    """Once in the log of each process, and as a count in the scrape of all."""
    with collecting(free_port()) as gone:
        pass
    with engine() as spoken, serving(site, tmp_path, spoken, tracing(gone)) as program:
        await announce(program)
        gone.wait_for(lambda: program.text.count('"event":"spans_not_sent"') == 2, 30)
        assert "Traceback" not in program.text
        url = f"http://127.0.0.1:{8097 + program.offset}/metrics"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            text = await answer.text()
        assert 'edge_spans_dropped_total{worker="balance"} 2' in text
        assert 'edge_spans_dropped_total{worker="handlers"} 2' in text


def test_a_collector_without_the_extra_is_a_fault(tmp_path: Path) -> None:
    """It names the setting and the extra; what is not asked for is not missed."""
    hidden = tmp_path / "site"
    hidden.mkdir()
    # As if it were not installed.
    (hidden / "sitecustomize.py").write_text("import sys\nsys.modules['opentelemetry.exporter'] = None\n")
    config = tmp_path / "config.toml"
    base = '[pools.p]\nendpoints = ["127.0.0.1:1"]\n[edge]\nbind = "127.0.0.1"\n'
    base += '[listeners.l]\nkind = "balance"\nport = 8200\npool = "p"\n'
    config.write_text(base + '[tracing]\nendpoint = "http://127.0.0.1:4318/v1/traces"\n', encoding="utf-8")
    env = {"PYTHONPATH": str(hidden)}
    judged = run("check", "--config", config, env=env)
    assert judged.returncode == 1
    assert "tracing.endpoint" in judged.stderr
    assert "sovren-edge[tracing]" in judged.stderr
    assert run("check", "--config", config).returncode == 0
    config.write_text(base, encoding="utf-8")
    assert run("check", "--config", config, env=env).returncode == 0
