"""A handler from a distribution of its own, from its installation to its port."""

import socket
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from program import Program, run, serve
from test_local import call

from tests.handler.stranger import install_greeter

GREETER = """
[listeners.greeter]
kind = "handler"
port = 8600
handler = "greeter"
settings = { greeting = "Welcome", signing_key = "env:GREETER_KEY" }
"""
SECOND = GREETER.replace("[listeners.greeter]", "[listeners.second]").replace("8600", "8601").replace("Welcome", "Hi")
BROKEN = """
import contextlib
from sovren_edge.handler import Handler

class Broken(Handler):
    @contextlib.asynccontextmanager
    async def open(self, edge):
        edge.log.info("broken_opened")
        raise RuntimeError("no luck today")
        yield

class Tidy(Handler):
    @contextlib.asynccontextmanager
    async def open(self, edge):
        edge.log.info("tidy_opened")
        try:
            yield []
        finally:
            edge.log.info("tidy_closed")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the distribution."""
    target = tmp_path_factory.mktemp("site")
    install_greeter(target)
    return target


@pytest.fixture(scope="module")
def greeter(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Run the program with the greeter on two ports, with other settings on each."""
    folder = tmp_path_factory.mktemp("greeter")
    config = folder / "config.toml"
    config.write_text(GREETER + SECOND, encoding="utf-8")
    env = {"PYTHONPATH": str(site)}
    with serve(folder / "state", "--local", "--config", str(config), env=env) as program:
        yield program


async def test_it_serves_its_ports(greeter: Program) -> None:
    """Each with its own settings, and the port's own pages beside its routes."""
    for port, word in ((8600, "Welcome"), (8601, "Hi")):
        status, body = await call(greeter, port, "/greet/Ada?times=2")
        assert status == 200
        assert orjson.loads(body)["lines"] == [f"{word}, Ada!"] * 2
    assert (await call(greeter, 8600, "/health"))[1] == b'{"status":"ok","service":"greeter"}'
    assert (await call(greeter, 8601, "/ready"))[0] == 200
    metrics = (await call(greeter, 8600, "/metrics"))[1].decode()
    assert 'greeter_greetings_total{listener="greeter"} 2' in metrics
    assert 'http_requests_total{listener="greeter",method="GET",status="200"}' in metrics


async def test_it_keeps_its_tables(greeter: Program) -> None:
    """Its migrations were applied, and its rows are there."""
    status, body = await call(greeter, 8600, "/greetings", b'{"name":"Ada","text":"Good day"}')
    assert status == 200, body
    status, body = await call(greeter, 8601, "/greetings?limit=1")
    assert orjson.loads(body)[0]["text"] == "Good day"


async def test_its_document_and_its_page(greeter: Program) -> None:
    """OpenAPI 3.1, and a page that loads nothing from elsewhere."""
    document = orjson.loads((await call(greeter, 8600, "/openapi.json"))[1])
    assert document["openapi"].startswith("3.1")
    assert "/greet/{name}" in document["paths"]
    page = (await call(greeter, 8600, "/docs"))[1].decode()
    assert "/greet/{name}" in page
    assert "http://" not in page.replace("http://127.0.0.1", "")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [("/nowhere", None, 404), ("/greet/Ada?times=no", None, 400), ("/greetings", b"{", 400), ("/greet/Ada", b"", 405)],
)
async def test_its_errors_have_the_one_form(greeter: Program, path: str, body: bytes | None, status: int) -> None:
    """JSON with the members that the portal reads."""
    found, answer = await call(greeter, 8600, path, body)
    problem = orjson.loads(answer)
    assert (found, problem["statusCode"]) == (status, status)
    assert all(isinstance(problem[name], str) for name in ("error", "message", "detail"))


def test_faults_of_the_message_itself_too(greeter: Program) -> None:
    """Bytes that are no HTTP get a JSON answer, not aiohttp's text."""
    with socket.create_connection(("127.0.0.1", 8600 + greeter.offset), 5) as caller:
        caller.sendall(b"no http\r\n\r\n")
        answer = b""
        while piece := caller.recv(4096):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 400 " in head
    assert orjson.loads(body)["reason"] == "malformed_request"
    assert "Traceback" not in greeter.text


async def test_a_missing_secret_is_made_once_and_never_shown(greeter: Program) -> None:
    """Under the state directory, for its owner alone."""
    secret = greeter.state_dir / "secrets" / "GREETER_KEY"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.read_text(encoding="utf-8") not in greeter.text


def test_a_missing_secret_is_a_fault_elsewhere(site: Path, tmp_path: Path) -> None:
    """It names the setting and the variable."""
    config = tmp_path / "config.toml"
    config.write_text('[edge]\nbind = "127.0.0.1"\n' + GREETER, encoding="utf-8")
    judged = run("check", "--config", config, env={"PYTHONPATH": str(site)})
    assert judged.returncode == 1
    assert "listeners.greeter.settings.signing_key" in judged.stderr
    assert "GREETER_KEY" in judged.stderr
    assert "database.url" in judged.stderr


def test_what_was_opened_is_closed_when_another_fails(tmp_path: Path) -> None:
    """The program says whose handler did not start, and ends."""
    site = tmp_path / "site"
    info = site / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "broken_handlers.py").write_text(BROKEN, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n", encoding="utf-8")
    entries = "[sovren_edge.handlers]\nbroken = broken_handlers:Broken\ntidy = broken_handlers:Tidy\n"
    (info / "entry_points.txt").write_text(entries, encoding="utf-8")
    config = tmp_path / "config.toml"
    config.write_text(
        '[listeners.tidy]\nkind = "handler"\nport = 8600\nhandler = "tidy"\n'
        '[listeners.broken]\nkind = "handler"\nport = 8601\nhandler = "broken"\n',
        encoding="utf-8",
    )
    with serve(
        tmp_path / "state", "--local", "--config", str(config), env={"PYTHONPATH": str(site)}, may_fail=True
    ) as program:
        assert program.process.wait(30) == 1
    events = [word for word in ("tidy_opened", "broken_opened", "tidy_closed") if program.said(word)]
    assert events == ["tidy_opened", "broken_opened", "tidy_closed"]
    assert program.text.index("broken_opened") < program.text.index("tidy_closed")
    assert "listener broken" in program.text
    assert "no luck today" in program.text
    assert "Traceback" not in program.text


@pytest.mark.parametrize(("expectation", "status"), [(b"100-continue", b" 200 "), (b"magic", b" 417 ")])
def test_expectations(greeter: Program, expectation: bytes, status: bytes) -> None:
    """One is met, any other is refused in JSON."""
    body = b'{"name":"Ada","text":"Hello"}'
    head = b"POST /greetings HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: %s\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", 8600 + greeter.offset), 5) as caller:
        caller.sendall(head % (expectation, len(body)) + body)
        answer = b""
        while piece := caller.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\n") == (expectation == b"100-continue")
    head, _, said = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    assert status in head
    assert isinstance(orjson.loads(said), dict)
