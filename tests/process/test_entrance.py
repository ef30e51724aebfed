"""The program's doors: TLS with a certificate that changes, few descriptors, and callers that attack slowly."""

import http.client
import resource
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from program import Program, run, serve, until

from tests.core.certificates import Authority

CONFIG = """
[edge]
bind = "127.0.0.1"
[relay]
head_timeout_s = 1.0
body_timeout_s = 1.0
idle_timeout_s = 1.0
idle_connections_per_endpoint = 8
[pools.model]
endpoints = ["127.0.0.1:{port}"]
[pools.model.probe]
interval_s = 0.2
[listeners.plain]
port = 8200
kind = "balance"
pool = "model"
auth = "none"
[listeners.secure]
port = 8201
kind = "balance"
pool = "model"
auth = "none"
tls = {{ certificate = "cert.pem", key = "key.pem" }}
"""
BIG = b"x" * 400_000


class Model(BaseHTTPRequestHandler):
    """Answers everything; /big with more than buffers hold."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        body = BIG if "big" in self.path else self.headers.get("X-Forwarded-Proto", "-").encode()
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def model() -> Iterator[int]:
    """Serve an endpoint on a free port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextmanager
def edge(folder: Path, model: int, descriptors: int | None = None) -> Iterator[Program]:
    """Run the program before the endpoint; perhaps with few descriptors."""
    Authority.make(folder)
    (folder / "config.toml").write_text(CONFIG.format(port=model), encoding="utf-8")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    prefix = () if descriptors is None else ("prlimit", f"--nofile={descriptors}:{descriptors}")
    assert descriptors is None or descriptors <= hard
    with serve(folder / "state", "--config", str(folder / "config.toml"), prefix=prefix) as program:
        until(lambda: get(program, 8200)[0] == 200)
        yield program


def get(program: Program, port: int, path: str = "/", tls: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    """Ask once on a connection of its own."""
    at = port + program.offset
    connection = (
        http.client.HTTPConnection("127.0.0.1", at, timeout=30)
        if tls is None
        else http.client.HTTPSConnection("localhost", at, timeout=30, context=tls)
    )
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_too_few_descriptors_for_what_is_configured_are_a_fault(tmp_path: Path, model: int) -> None:
    """Nothing has been started then."""
    Authority.make(tmp_path)
    (tmp_path / "config.toml").write_text(CONFIG.format(port=model), encoding="utf-8")
    few = ("prlimit", "--nofile=100:100")
    with serve(tmp_path / "state", "--config", str(tmp_path / "config.toml"), prefix=few, may_fail=True) as program:
        assert program.process.wait(30) == 1
    assert "lets a process have 100 descriptors" in program.text
    assert "LimitNOFILE=" in program.text


def test_a_port_speaks_tls_and_its_certificate_is_renewed(tmp_path: Path, model: int) -> None:
    """The endpoint learns of it, `verify` too; a bad pair is an error in the log, a good one is taken."""
    with edge(tmp_path, model) as program:
        caller = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        assert get(program, 8201, tls=caller) == (200, b"https")
        assert get(program, 8200) == (200, b"http")
        config = str(tmp_path / "config.toml")
        verified = run("verify", "--config", config, "--port-offset", str(program.offset))
        assert verified.returncode == 0, verified.stdout
        (tmp_path / "new").mkdir()
        authority = Authority.make(tmp_path / "new")
        shutil.copy(tmp_path / "new" / "cert.pem", tmp_path / "cert.pem")
        until(lambda: program.said("certificate_not_reloaded"))
        assert get(program, 8201, tls=caller) == (200, b"https")
        shutil.copy(tmp_path / "new" / "key.pem", tmp_path / "key.pem")
        until(lambda: program.said("certificate_reloaded"))
        assert get(program, 8201, tls=authority.client()) == (200, b"https")
        page = get(program, 8201, "/metrics", tls=authority.client())[1].decode()
        assert 'edge_certificate_left_seconds{listener="secure"} 259' in page
        assert 'edge_certificate_reload_failures_total{listener="secure"} 1' in page


def test_a_missing_certificate_is_a_fault(tmp_path: Path, model: int) -> None:
    """Of `check` for this machine, and of `serve`."""
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(port=model), encoding="utf-8")
    found = run("check", "--local", "--config", config)
    assert found.returncode == 1
    assert f"listeners.secure.tls: the certificate {tmp_path}/cert.pem cannot be read" in found.stderr


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit (util-linux) is not installed")
def test_with_few_descriptors_callers_wait_and_probes_live(tmp_path: Path, model: int) -> None:
    """Those that are served go on, those that wait are served later, and nothing spins."""
    with edge(tmp_path, model, descriptors=256) as program, ExitStack() as stack:
        at = ("127.0.0.1", 8200 + program.offset)
        request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        guests = [stack.enter_context(socket.create_connection(at, timeout=20)) for _ in range(100)]
        until(lambda: program.said("descriptors_exhausted"))
        served = [guest for guest in guests[:40] if guest.sendall(request) is None and guest.recv(1000)]
        assert len(served) == 40
        process = psutil.Process(program.process.pid)
        before = sum(process.cpu_times()[:2])
        guests[0].sendall(request)
        assert guests[0].recv(1000).startswith(b"HTTP/1.1 200 ")
        guests[99].sendall(request)
        guests[99].settimeout(0.5)
        with pytest.raises(TimeoutError):
            guests[99].recv(1000)
        assert sum(process.cpu_times()[:2]) - before < 0.3
        for guest in guests[:90]:
            guest.close()
        guests[99].settimeout(20)
        assert guests[99].recv(1000).startswith(b"HTTP/1.1 200 ")
        until(lambda: program.said("descriptors_freed"))
        assert not program.said("endpoint_became_unready")


@pytest.mark.skipif(shutil.which("slowhttptest") is None, reason="slowhttptest is not installed (Debian: slowhttptest)")
@pytest.mark.parametrize(
    "mode", [("-H", "-i", "1"), ("-B", "-i", "1"), ("-X", "-w", "10", "-y", "20", "-n", "1", "-z", "8")]
)
def test_slow_attackers_harm_nobody(tmp_path: Path, model: int, mode: tuple[str, ...]) -> None:
    """Slow heads, slow bodies, slow readers: 300 of them, while others are served without an error."""
    with edge(tmp_path, model) as program:
        url = f"http://127.0.0.1:{8200 + program.offset}/big"
        command = ["slowhttptest", *mode, "-c", "300", "-r", "200", "-l", "40", "-p", "2", "-u", url]
        kind = {"-H": 'kind="head"', "-B": 'kind="body"', "-X": 'kind="reader"'}[mode[0]]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path) as attack:
            asked = 0
            while asked < 50 or not ended_as(program, kind):
                assert attack.poll() is None, "the attack is over, and nobody was ended"
                assert get(program, 8200) == (200, b"http")
                asked += 1
            attack.terminate()


def ended_as(program: Program, kind: str) -> int:
    """Return how many callers were ended for being slow in one way."""
    page = get(program, 8200, "/metrics")[1].decode()
    (line,) = [line for line in page.splitlines() if line.startswith("edge_timeouts_total") and kind in line]
    return int(line.split()[-1])
