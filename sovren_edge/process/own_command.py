"""Owns how this program starts itself.

Must not know what it is started for.
"""

import sys


def own_command() -> list[str]:
    """Return the command, without arguments, that starts this very program anew: also where it is one file."""
    if getattr(sys, "frozen", False):
        return [sys.executable]
    return [sys.executable, "-P", "-m", "sovren_edge"]
