"""Owns the clock by which grants are kept: it never goes back, runs on in a machine's sleep, and outlives a process.

Must not know what is timed. Times of one boot can be compared whatever becomes of the wall clock meanwhile.
"""

import time
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Elsewhere than on Linux, the monotonic clock is the one that runs on.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_us() -> int:
    """Return microseconds since the machine was started."""
    return time.clock_gettime_ns(_CLOCK) // 1000


def boot_clock() -> str:
    """Return the name of this boot's clock; where boots have no names, times of another process are not compared."""
    try:
        return f"boot:{BOOT_ID.read_text(encoding='ascii').strip()}"
    except OSError:
        return f"process:{time.time_ns()}"
