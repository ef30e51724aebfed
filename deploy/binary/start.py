"""What the unpacked program runs first: it holds its folder, finds strangers' handlers, then is `sovren-edge`.

Must not know what the commands do. How the folder comes and goes is told in launcher.c.
"""

import fcntl
import os
import sys
from pathlib import Path


def _hold(folder: Path) -> None:
    """Keep the folder for as long as this process runs this program: the lock ends with either."""
    fcntl.flock(os.open(folder, os.O_RDONLY | os.O_DIRECTORY), fcntl.LOCK_SH)
    # The launcher's lock would go on into a program that takes this one's place, which has a folder of its own.
    launchers = os.environ.pop("SOVREN_EDGE_HELD", None)
    if launchers is not None:
        os.close(int(launchers))


def _restore_environment() -> None:
    """Take out what the start has put in, so that whatever is started from here begins afresh."""
    for name in [name for name in os.environ if name.startswith("_PYI_")]:
        del os.environ[name]
    os.environ.pop("LD_LIBRARY_PATH", None)
    before = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
    if before is not None:
        os.environ["LD_LIBRARY_PATH"] = before


def _find_handlers(folder: Path) -> None:
    """Let distributions in `handlers`, beside the file that was started, be found: after all that is packed here."""
    started = folder / "started"
    if started.is_symlink():
        sys.path.append(str(started.resolve().with_name("handlers")))


if __name__ == "__main__":
    _hold(Path(sys.executable).parent)
    _restore_environment()
    _find_handlers(Path(sys.executable).parent)
    from sovren_edge.__main__ import main

    main()
