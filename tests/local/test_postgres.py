"""The embedded PostgreSQL, really started."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import asyncpg
import psutil
import pytest

from sovren_edge.errors import StartupError
from sovren_edge.local.postgres import run_postgres
from sovren_edge.local.privileges import find_servant
from tests.local.conftest import PATIENCE_S, wait_until

HOLDER = """
import asyncio, sys
from pathlib import Path
from sovren_edge.local.stack import open_stack

async def main():
    async with open_stack(Path(sys.argv[1]), [], 5432, lambda event, fields: None, 1):
        print("up", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def ask(url: str, query: str) -> object:
    """Return a query's one value."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def server_pid(state_dir: Path) -> int:
    """Return the pid in the server's own file."""
    return int((state_dir / "postgres/data/postmaster.pid").read_text(encoding="utf-8").split("\n")[0])


def start_and_kill_program(state_dir: Path) -> psutil.Process:
    """Kill a program that runs the stack, and return its server, which may still be ending."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(state_dir)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        server = psutil.Process(server_pid(state_dir))
        holder.kill()
    return server


def started(command: list[str]) -> "subprocess.Popen[bytes]":
    """Start a process in a session of its own."""
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)


async def test_data_stay_and_nothing_listens_on_the_network(short_path: Path) -> None:
    """A second run finds what the first wrote; no directory above changes its mode."""
    state_dir = short_path / "state"
    async with run_postgres(state_dir, 5432) as postgres:
        assert await ask(postgres.url, "SHOW listen_addresses") == ""
        assert await ask(postgres.url, "SHOW fsync") == "on"
        await ask(postgres.url, "CREATE TABLE kept AS SELECT 7 AS number")
    assert postgres.process.returncode == 0
    async with run_postgres(state_dir, 5433) as postgres:
        assert await ask(postgres.url, "SELECT number FROM kept") == 7
        assert await ask(postgres.url, "SELECT lower('ÄÖ') || current_setting('server_encoding')") == "äöUTF8"
    modes = [path.stat().st_mode & 0o777 for path in (short_path, state_dir / "postgres", state_dir / "postgres/run")]
    assert modes == [0o700] * 3


async def test_a_start_after_a_killed_program_works_at_once(tmp_path: Path) -> None:
    """The server ends with the program that started it, however that died."""
    server = start_and_kill_program(tmp_path)
    async with run_postgres(tmp_path, 5432) as postgres:
        assert await ask(postgres.url, "SELECT 1") == 1
        assert postgres.process.pid != server.pid


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="only setpriv ties the server's life to its parent's")
def test_nothing_is_left_of_a_killed_program(tmp_path: Path) -> None:
    """The server ends by itself."""
    server = start_and_kill_program(tmp_path)
    wait_until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)


async def test_a_server_that_nobody_watches_is_ended_first(short_path: Path) -> None:
    """Where nothing ties the server's life to its parent's, the next start ends it."""
    async with run_postgres(short_path, 5432) as postgres:
        command = psutil.Process(postgres.process.pid).cmdline()
    untied = find_servant(short_path / "postgres/data").prefix[:-2]
    with started([*untied, *command]) as left:
        wait_until((short_path / "postgres/run/.s.PGSQL.5432").exists)
        async with run_postgres(short_path, 5432) as postgres:
            assert left.wait(PATIENCE_S) == 0
            assert await ask(postgres.url, "SELECT 1") == 1


async def test_a_long_path_has_its_socket_elsewhere(tmp_path: Path) -> None:
    """In a directory of ours alone."""
    async with run_postgres(tmp_path / ("long" * 25), 5432) as postgres:
        assert await ask(postgres.url, "SELECT 1") == 1
        home = Path(str(await ask(postgres.url, "SHOW unix_socket_directories"))).parent
    status = home.stat()
    shutil.rmtree(home)
    assert home.parent == Path(tempfile.gettempdir())
    assert (status.st_uid, status.st_mode & 0o777) == (os.geteuid(), 0o700)


async def test_data_of_another_version_are_refused(tmp_path: Path) -> None:
    """The fault names both versions."""
    data = tmp_path / "postgres/data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("14\n", encoding="ascii")
    with pytest.raises(StartupError, match="written by PostgreSQL 14, and this is PostgreSQL 18"):
        await enter(tmp_path)


async def test_a_full_disk_is_a_fault_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how much is missing."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=12_000_000))
    with pytest.raises(StartupError, match="only 12 MB are free"):
        await enter(tmp_path)


async def test_faults_of_the_files_are_faults_of_the_start(tmp_path: Path) -> None:
    """A file where a directory should be, and settings that the server refuses."""
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match="cannot prepare PostgreSQL's files"):
        await enter(tmp_path / "file")
    async with run_postgres(tmp_path, 5432):
        pass
    (tmp_path / "postgres/data/postgresql.conf").write_text("nonsense = 1\n", encoding="ascii")
    with pytest.raises(StartupError, match=r"ended at its start \(exit status 1\): see .*postgres\.log"):
        await enter(tmp_path)


async def enter(state_dir: Path) -> None:
    """Start the server and end it at once."""
    async with run_postgres(state_dir, 5432):
        pass
