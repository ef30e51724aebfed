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
    beside = home / "run"
    if len(os.fsencode(beside / f".s.PGSQL.{port}.lock")) <= _PATH_BYTES:
        return beside
    private = Path(tempfile.gettempdir()) / f"sovren-edge-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"
    private.mkdir(mode=0o700, exist_ok=True)
    status = private.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise StartupError(f"{private} must be a directory that only you can use: remove it, then start again")
    return private / "run"
