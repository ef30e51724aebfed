"""Owns the rule that a process of the local stack never outlives the program that started it.

Must not know what the process does.
"""

import os
import signal
import sys
import threading


def take_leash() -> None:
    """Have this process end at once when the other end of standard input is gone, however its owner died.

    A terminal sends Ctrl-C to a whole group of processes; it is ignored here: the owner decides when this one ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_owner, name="leash", daemon=True).start()


def _exit_with_owner() -> None:
    try:
        while os.read(sys.stdin.fileno(), 1024):
            pass
    finally:
        os._exit(0)
