"""The tree of processes, as its operators and its callers know it: workers die, hang, are reloaded and upgraded."""

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson
import psutil
import pytest
from harness import Backend, backend
from program import Program, free_offset, run, serve, until

TROUBLE = """
import contextlib, os, time
from sovren_edge.handler import Handler, route

class Trouble(Handler):
    @contextlib.asynccontextmanager
    async def open(self, edge):
        async def block(seconds: float = 1.0) -> dict[str, bool]:
            time.sleep(seconds)
            return {"slept": True}

        async def environment() -> dict[str, list[str]]:
            return {"names": sorted(os.environ)}

        yield [route.post("/block", block), route.post("/environment", environment)]
"""
CONFIG = """
[edge]
bind = "127.0.0.1"
drain_s = 20.0
workers = {{ handlers = {{ cpus = [0], nice = 3 }} }}

[pools.echo]
endpoints = [{endpoints}]
slots = 2

[listeners.echo]
port = 9300
kind = "balance"
pool = "echo"
auth = "none"

[listeners.all]
port = 9301
kind = "status"
auth = "none"

[listeners.trouble]
port = 9302
kind = "handler"
handler = "trouble"
auth = "none"
"""
DOOR = """
[listeners.door]
port = 9304
kind = "balance"
pool = "echo"
auth = "none"
"""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install a handler that makes trouble."""
    site = tmp_path_factory.mktemp("site")
    info = site / "trouble-1.0.dist-info"
    info.mkdir()
    (site / "trouble.py").write_text(TROUBLE, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: trouble\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[sovren_edge.handlers]\ntrouble = trouble:Trouble\n", encoding="utf-8")
    return site


@dataclass
class Site:
    """A running program, its configuration, and who is behind it; what is asked for at /held waits for `released`."""

    program: Program
    config: Path
    backend: Backend
    busiest: list[int]
    released: asyncio.Event

    def url(self, port: int, path: str = "/") -> str:
        """Return where something is."""
        return f"http://127.0.0.1:{port + self.program.offset}{path}"

    def events(self, event: str) -> list[dict[str, object]]:
        """Return the log's lines of one event."""
        return [orjson.loads(line) for line in self.program.text.splitlines() if f'"event":"{event}"' in line]

    def pids(self, worker: str) -> list[int]:
        """Return the processes that a worker had, the last one last."""
        return [int(str(line["pid"])) for line in self.events("worker_started") if line["worker"] == worker]

    async def happened(self, event: str, times: int = 1) -> None:
        """Wait for an event in the log."""
        await asyncio.to_thread(until, lambda: len(self.events(event)) >= times)

    async def refused(self, port: int) -> None:
        """Wait until nobody is let in any more."""
        async with asyncio.timeout(60):
            while True:
                try:
                    await get(self.url(port, "/health"))
                except aiohttp.ClientConnectorError:
                    return
                except aiohttp.ClientError:
                    continue


@asynccontextmanager
async def running(site: Path, folder: Path, *, delay_s: float = 0.0, **env: str) -> AsyncIterator[Site]:
    """Run the program in front of one endpoint, which answers after a while."""
    busiest, inside, released = [0], [0], asyncio.Event()

    async def answer(head: bytes, _body: bytes) -> bytes:
        if b" /health " in head:
            return OK
        if b" /tunnel " in head:
            return b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        inside[0] += 1
        busiest[0] = max(busiest[0], inside[0])
        await (released.wait() if b" /held " in head else asyncio.sleep(delay_s))
        inside[0] -= 1
        return OK

    config = folder / "config.toml"
    async with backend(answer) as one:
        config.write_text(CONFIG.format(endpoints=f'"127.0.0.1:{one.port}"'), encoding="utf-8")
        environ = {"PYTHONPATH": str(site), **env}
        started = serve(folder / "state", "--config", str(config), offset=free_offset(config), env=environ)
        program = await asyncio.to_thread(started.__enter__)
        try:
            yield Site(program, config, one, busiest, released)
        finally:
            await asyncio.to_thread(started.__exit__, None, None, None)


@dataclass
class Load:
    """What callers got who came again and again."""

    statuses: Counter[object] = field(default_factory=Counter)
    running: bool = True

    async def call(self, url: str, session: aiohttp.ClientSession) -> None:
        """Call until told to stop; a connection that breaks is a result, too (the client would try a GET again)."""
        while self.running:
            try:
                async with session.post(url) as answer:
                    await answer.read()
                    self.statuses[answer.status] += 1
            except (aiohttp.ClientError, OSError) as error:
                self.statuses[type(error).__name__] += 1

    async def seen(self, more: int) -> None:
        """Wait until so many more were answered."""
        goal = self.statuses.total() + more
        async with asyncio.timeout(60):
            while self.statuses.total() < goal:  # noqa: ASYNC110 - other processes' doing
                await asyncio.sleep(0.01)


@asynccontextmanager
async def load(url: str, callers: int = 4, *, keep_alive: bool = True) -> AsyncIterator[Load]:
    """Have callers call a URL again and again, until the block ends."""
    made = Load()
    connector = aiohttp.TCPConnector(limit=0, force_close=not keep_alive)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(made.call(url, session))
        try:
            yield made
        finally:
            made.running = False


async def call(method: str, url: str) -> tuple[int, bytes]:
    """Return status and body."""
    async with aiohttp.ClientSession() as session, session.request(method, url) as answer:
        return answer.status, await answer.read()


async def get(url: str) -> tuple[int, bytes]:
    """Look at a page."""
    return await call("GET", url)


async def post(url: str) -> tuple[int, bytes]:
    """Have something done; nobody tries it again."""
    return await call("POST", url)


async def command(at: Site, *words: str) -> tuple[int, str, str]:
    """Run a command beside the program; return its exit status and what it prints."""
    ended = await asyncio.to_thread(run, *words, "--state-dir", at.program.state_dir)
    return ended.returncode, ended.stdout, ended.stderr


async def test_a_handler_that_blocks_or_dies_harms_no_other_port(site: Path, tmp_path: Path) -> None:
    """Others answer while it blocks; when it dies it begins anew, and who comes meanwhile waits."""
    async with running(site, tmp_path) as at:
        blocked = asyncio.ensure_future(post(at.url(9302, "/block?seconds=60")))
        async with load(at.url(9300)) as made:
            await made.seen(200)
            assert not blocked.done()
            assert await get(at.url(9301, "/health")) == (200, b'{"status":"ok","service":"all"}')
            os.kill(at.pids("handlers")[-1], signal.SIGKILL)
            with pytest.raises(aiohttp.ClientError):
                await blocked
            assert (await post(at.url(9302, "/environment")))[0] == 200
            await made.seen(50)
        assert set(made.statuses) == {200}
        (died,) = at.events("worker_died")
        assert (died["worker"], died["exit_status"]) == ("handlers", -signal.SIGKILL)
        metrics = (await get(at.url(9301, "/metrics")))[1].decode()
        assert 'edge_worker_restarts_total{worker="handlers"} 1' in metrics
        assert 'edge_worker_up{worker="handlers"} 1' in metrics


async def test_every_worker_may_die(site: Path, tmp_path: Path) -> None:
    """Only requests on its own connections fail."""
    async with running(site, tmp_path, delay_s=0.01) as at:
        async with load(at.url(9300), keep_alive=False) as made:
            for times, worker in enumerate(("operate", "handlers", "balance"), 1):
                os.kill(at.pids(worker)[-1], signal.SIGKILL)
                await at.happened("worker_died", times)
                await made.seen(20)
        broken = made.statuses.total() - made.statuses[200]
        assert broken <= 4  # those whom the balancer was serving when it died
        assert (await get(at.url(9301, "/ready")))[0] == 200
        assert (await command(at, "pool", "list"))[0] == 0


async def test_all_callers_may_come_back_at_once(site: Path, tmp_path: Path) -> None:
    """They wait in the backlog until the balancer has begun anew, and then in its queue."""
    async with running(site, tmp_path) as at:
        os.kill(at.pids("balance")[-1], signal.SIGKILL)
        answers = await asyncio.gather(*(post(at.url(9300)) for _ in range(200)))
        assert {status for status, _ in answers} == {200}
        assert at.busiest[0] <= 2


async def test_a_worker_that_dies_too_often_closes_its_ports_until_a_reload(site: Path, tmp_path: Path) -> None:
    """Its callers are refused and do not hang; the others go on."""
    async with running(site, tmp_path) as at:
        for times in range(1, 6):
            os.kill(at.pids("handlers")[-1], signal.SIGKILL)
            await at.happened("worker_died", times)
            if times < 5:
                await at.happened("worker_started", 3 + times)
        await at.happened("worker_failed")
        with pytest.raises(aiohttp.ClientConnectorError):
            await post(at.url(9302, "/environment"))
        assert (await post(at.url(9300)))[0] == 200
        metrics = (await get(at.url(9301, "/metrics")))[1].decode()
        assert 'edge_worker_failed{worker="handlers"} 1' in metrics
        assert 'edge_worker_up{worker="handlers"} 0' in metrics
        assert "begun: handlers" in (await command(at, "reload"))[1]
        assert (await post(at.url(9302, "/environment")))[0] == 200


async def test_a_worker_sees_no_secret_that_is_not_its_own(site: Path, tmp_path: Path) -> None:
    """Nor what is the supervisor's alone."""
    env = {"SOVREN_EDGE_DATABASE_URL": "postgresql://secret", "NOTIFY_SOCKET": "", "HARMLESS": "1"}
    async with running(site, tmp_path, **env) as at:
        names = set(orjson.loads((await post(at.url(9302, "/environment")))[1])["names"])
        assert "HARMLESS" in names
        assert not names & {"SOVREN_EDGE_DATABASE_URL", "NOTIFY_SOCKET"}


async def test_a_worker_has_the_cores_and_the_niceness_that_are_set(site: Path, tmp_path: Path) -> None:
    """The others have the program's own."""
    async with running(site, tmp_path) as at:
        handlers, balance = (psutil.Process(at.pids(name)[-1]) for name in ("handlers", "balance"))
        assert (handlers.cpu_affinity(), handlers.nice()) == ([0], psutil.Process().nice() + 3)
        assert (balance.cpu_affinity(), balance.nice()) == (psutil.Process().cpu_affinity(), psutil.Process().nice())


def _lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_workers_end_with_the_supervisor(site: Path, tmp_path: Path) -> None:
    """At once, also one that is blocked, and the ports are free."""
    async with running(site, tmp_path) as at:
        blocked = asyncio.ensure_future(post(at.url(9302, "/block?seconds=60")))
        await post(at.url(9300))
        workers = [at.pids(name)[-1] for name in ("balance", "operate", "handlers")]
        os.kill(at.program.process.pid, signal.SIGKILL)
        await asyncio.to_thread(until, lambda: not any(map(_lives, workers)), 10)
        with pytest.raises(aiohttp.ClientError):
            await blocked
        await at.refused(9300)


async def test_a_reload_applies_what_is_different_and_nothing_else(site: Path, tmp_path: Path) -> None:
    """Endpoints join and leave, ports open and close, streams go on, and counters stay."""
    async with running(site, tmp_path) as at, backend(lambda _head, _body: OK) as other:
        slow = asyncio.ensure_future(post(at.url(9300, "/held")))
        async with load(at.url(9300)) as made:
            await made.seen(20)
            before = at.pids("balance")
            text = at.config.read_text(encoding="utf-8")
            changed = text.replace(f":{at.backend.port}", f":{other.port}").replace("port = 9302", "port = 9303")
            at.config.write_text(changed + DOOR, encoding="utf-8")
            assert await command(at, "reload") == (0, "reloaded; changed: balance, handlers\n", "")
            await made.seen(50)
        assert set(made.statuses) == {200}
        at.released.set()
        assert (await slow)[0] == 200
        assert (await post(at.url(9304)))[0] == 200
        assert (await post(at.url(9303, "/environment")))[0] == 200
        with pytest.raises(aiohttp.ClientConnectorError):
            await post(at.url(9302, "/environment"))
        assert at.pids("balance") == before
        await at.happened("endpoint_left")
        metrics = (await get(at.url(9301, "/metrics")))[1].decode()
        series = r'http_requests_total\{worker="balance",listener="echo",method="POST",status="200"\} (\d+)'
        counted = re.search(series, metrics)
        assert counted is not None
        assert int(counted.group(1)) == made.statuses[200] + 1


async def test_a_faulty_file_changes_nothing_and_every_fault_is_shown(site: Path, tmp_path: Path) -> None:
    """Where the reload was asked for; a signal's are in the log."""
    async with running(site, tmp_path) as at:
        text = at.config.read_text(encoding="utf-8")
        at.config.write_text(text.replace("slots = 2", "slots = -2").replace('pool = "echo"', 'pool = "ecko"'))
        status, _, said = await command(at, "reload")
        assert status == 1
        assert "pools.echo.slots" in said
        assert "listeners.echo.pool" in said
        at.program.process.send_signal(signal.SIGHUP)
        await at.happened("reload_refused", 2)
        assert (await post(at.url(9300)))[0] == 200
        assert len(at.pids("balance")) == 1


async def test_a_port_that_is_taken_is_a_fault_of_a_reload(site: Path, tmp_path: Path) -> None:
    """The others stay as they were."""
    async with running(site, tmp_path) as at, backend(lambda _head, _body: OK) as other:
        taken = DOOR.replace("9304", str(other.port - at.program.offset))
        at.config.write_text(at.config.read_text(encoding="utf-8") + taken, encoding="utf-8")
        status, _, said = await command(at, "reload")
        assert status == 1
        assert f"port {other.port} (door)" in said
        assert (await get(at.url(9301, "/ready")))[0] == 200


async def test_what_was_set_by_hand_outlives_a_worker(site: Path, tmp_path: Path) -> None:
    """It holds until the program ends."""
    async with running(site, tmp_path) as at:
        assert (await command(at, "pool", "slots", "echo-01", "7"))[0] == 0
        os.kill(at.pids("balance")[-1], signal.SIGKILL)
        await at.happened("worker_died")
        await at.happened("worker_started", 4)
        assert (await post(at.url(9300)))[0] == 200
        _, shown, _ = await command(at, "pool", "list", "--json")
        assert orjson.loads(shown)[0]["endpoints"][0]["slots"] == 7


async def test_an_upgrade_fails_no_request(site: Path, tmp_path: Path) -> None:
    """A new program serves under the same process id, the old one finishes its streams; slots are never exceeded."""
    async with running(site, tmp_path, delay_s=0.01) as at:
        slow = asyncio.ensure_future(post(at.url(9300, "/held")))
        async with load(at.url(9300)) as made, load(at.url(9302, "/environment"), 2, keep_alive=False) as handled:
            await made.seen(20)
            at.program.process.send_signal(signal.SIGUSR2)
            await at.happened("took_over")
            await at.happened("serving", 2)
            assert not slow.done()
            await made.seen(50)
            at.program.process.send_signal(signal.SIGUSR2)
            await at.happened("upgrade_refused")
            at.released.set()
            assert (await slow)[0] == 200
            await at.happened("worker_retired", 3)
            at.program.process.send_signal(signal.SIGUSR2)
            await at.happened("serving", 3)
            await made.seen(50)
        assert set(made.statuses) == {200}
        assert set(handled.statuses) == {200}
        assert at.busiest[0] <= 2, at.program.text
        metrics = (await get(at.url(9301, "/metrics")))[1].decode()
        assert 'edge_upgrades_total{worker="supervisor",result="done"} 2' in metrics
        assert 'edge_upgrades_total{worker="supervisor",result="refused"} 1' in metrics
        assert (await command(at, "reload"))[1] == "reloaded; nothing is different\n"


async def test_a_tunnel_has_no_longer_than_requests(site: Path, tmp_path: Path) -> None:
    """What is cut at the end of a generation is counted."""
    async with running(site, tmp_path) as at:
        hurried = at.config.read_text(encoding="utf-8").replace("drain_s = 20.0", "drain_s = 1.0")
        at.config.write_text(hurried, encoding="utf-8")
        reader, writer = await asyncio.open_connection("127.0.0.1", 9300 + at.program.offset)
        asked = b"GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        writer.write(asked)
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        at.program.process.send_signal(signal.SIGUSR2)
        async with asyncio.timeout(60):
            with suppress(ConnectionError):
                assert await reader.read() == b""
        await at.happened("worker_retired", 3)
        assert sum(int(str(line["cut_requests"])) for line in at.events("worker_drained")) == 1
        metrics = (await get(at.url(9301, "/metrics")))[1].decode()
        assert 'edge_requests_cut_total{worker="balance"} 1' in metrics
        writer.close()


async def test_a_program_that_would_not_start_takes_nothing_over(site: Path, tmp_path: Path) -> None:
    """It is asked before anything is given up."""
    async with running(site, tmp_path) as at:
        at.config.write_text("nonsense", encoding="utf-8")
        at.program.process.send_signal(signal.SIGUSR2)
        await at.happened("upgrade_refused")
        assert (await post(at.url(9300)))[0] == 200


async def test_a_stop_lets_requests_finish(site: Path, tmp_path: Path) -> None:
    """Meanwhile nobody else is let in."""
    async with running(site, tmp_path) as at:
        slow = asyncio.ensure_future(post(at.url(9300, "/held")))
        await asyncio.to_thread(until, lambda: at.busiest[0] >= 1)
        at.program.process.send_signal(signal.SIGTERM)
        await at.refused(9300)
        at.released.set()
        assert (await slow)[0] == 200
        assert await asyncio.to_thread(at.program.process.wait, 30) == 0
        assert at.events("stopped")[0]["cut_requests"] == 0


async def test_a_second_signal_does_not_wait(site: Path, tmp_path: Path) -> None:
    """What is open then is cut."""
    async with running(site, tmp_path) as at:
        slow = asyncio.ensure_future(post(at.url(9300, "/held")))
        await asyncio.to_thread(until, lambda: at.busiest[0] >= 1)
        at.program.process.send_signal(signal.SIGTERM)
        await at.happened("stopping")
        at.program.process.send_signal(signal.SIGINT)
        with pytest.raises(aiohttp.ClientError):
            await slow
        assert await asyncio.to_thread(at.program.process.wait, 30) == 0


async def test_what_does_not_finish_in_time_is_cut_and_counted(site: Path, tmp_path: Path) -> None:
    """Before that /ready says for a while that others are to be asked."""
    async with running(site, tmp_path) as at:
        hurried = at.config.read_text(encoding="utf-8").replace("drain_s = 20.0", "drain_s = 0.2\nunready_s = 2.0")
        at.config.write_text(hurried, encoding="utf-8")
        assert (await command(at, "reload"))[0] == 0
        slow = asyncio.ensure_future(post(at.url(9300, "/held")))
        await asyncio.to_thread(until, lambda: at.busiest[0] >= 1)
        at.program.process.send_signal(signal.SIGTERM)
        await at.happened("stopping")
        assert (await get(at.url(9300, "/ready")))[0] == 503
        assert await asyncio.to_thread(at.program.process.wait, 30) == 0
        with pytest.raises(aiohttp.ClientError):
            await slow
        assert at.events("stopped")[0]["cut_requests"] == 1
