"""Owns where a Unix socket can be, since the kernel limits the length of its path.

Must not know who listens on it.
"""

import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path

from sovren_edge.errors import StartupError

_PATH_BYTES = 107 if sys.platform == "linux" else 103


def socket_dir(home: Path, port: int) -> Path:
    """Return a directory for PostgreSQL's socket within `home`, or where that is too long, within one of our own.

    Its parent exists and is closed to others; StartupError if someone else has made it.
    """
    return _short(home, "run", f".s.PGSQL.{port}.lock") / "run"


def admin_socket(state_dir: Path) -> Path:
    """Return where the admin socket is: in the state directory, or where that is too long, as for PostgreSQL's."""
    return _short(state_dir, "admin.sock") / "admin.sock"


def _short(home: Path, *names: str) -> Path:
    """Return a directory in which these names are no longer than a socket's path may be."""
    if len(os.fsencode(home.joinpath(*names))) <= _PATH_BYTES:
        return home
    private = Path(tempfile.gettempdir()) / f"sovren-edge-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"
    private.mkdir(mode=0o700, exist_ok=True)
    status = private.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise StartupError(f"{private} must be a directory that only you can use: remove it, then start again")
    return private
