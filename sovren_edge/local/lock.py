"""Owns the rule that one program at a time uses a state directory.

Must not know what is kept there.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sovren_edge.errors import StartupError


@contextmanager
def hold(state_dir: Path, program: int) -> Iterator[None]:
    """Make the state directory (mode 0700) if it is absent, and keep others out; StartupError names the holder.

    The kernel lets go when this process ends, in whatever way; so the file itself stays. Others are told of `program`.
    """
    path = state_dir / "lock"
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartupError(f"cannot use the state directory {state_dir}: {error.strerror}") from None
    with os.fdopen(descriptor, "r+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read().strip() or "unknown"
            raise StartupError(
                f"the state directory {state_dir} is in use by process {holder}: stop it, or name another directory"
            ) from None
        file.truncate()
        file.write(f"{program}\n")
        file.flush()
        yield
