"""Owns how this program starts itself: as a worker of its own, and as what lies on the disk by now.

Must not know what is started, nor with which arguments.
"""

import sys
from pathlib import Path

# Beside the unpacked one-file program its launcher leaves a link to the file that was started.
_STARTED = "started"


def own_command() -> list[str]:
    """Return how this very program is started once more: the same code, whatever was installed since."""
    if getattr(sys, "frozen", False):
        return [sys.executable]
    # -P: no module of the folder where it is started takes the place of one of ours.
    return [sys.executable, "-P", "-m", "sovren_edge"]


def next_command() -> list[str]:
    """Return how the program is started that lies on the disk now, which an upgrade may have put there."""
    started = Path(sys.executable).with_name(_STARTED)
    if getattr(sys, "frozen", False) and started.is_symlink():
        return [str(started.readlink())]
    return own_command()
