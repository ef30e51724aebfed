"""Owns the end of a PostgreSQL server that outlived the program that started it.

Must not know how a server is started.
"""

import asyncio
import signal
from contextlib import suppress
from pathlib import Path

import psutil

from sovren_edge.errors import StartupError

_PATIENCE = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0))
_POLL_S = 0.02


async def end_leftover(data_dir: Path) -> None:
    """End the server that still runs over this directory, if one does; StartupError if it does not end."""
    server = _find(data_dir)
    if server is None:
        return
    for number, patience_s in _PATIENCE:
        if await _ends(server, number, patience_s):
            return
    raise StartupError(f"an older PostgreSQL (process {server.pid}) does not end: kill it, then start again")


def _find(data_dir: Path) -> psutil.Process | None:
    try:
        process = psutil.Process(int((data_dir / "postmaster.pid").read_text(encoding="utf-8").split("\n")[0]))
        ours = process.name() == "postgres" and str(data_dir) in process.cmdline()
    except (FileNotFoundError, ValueError, psutil.Error):
        return None
    return process if ours else None


async def _ends(server: psutil.Process, number: signal.Signals, patience_s: float) -> bool:
    with suppress(psutil.NoSuchProcess):
        server.send_signal(number)
        for _ in range(round(patience_s / _POLL_S)):
            # A dead process that its new parent never reaps holds nothing any more.
            if not server.is_running() or server.status() == psutil.STATUS_ZOMBIE:
                return True
            await asyncio.sleep(_POLL_S)
        return False
    return True
