"""Run the edge as always, and write down the longest pause of its garbage collector after its start.

`python gc_watch.py FILE serve --config ...`
"""

import gc
import sys
import time
from pathlib import Path

from sovren_edge.cli import main


class Watch:
    """Times collections, from when what the program is made of has been frozen."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.collections = 0
        self.began = 0.0

    def __call__(self, phase: str, _info: object) -> None:
        """See gc.callbacks."""
        if phase == "start":
            self.began = time.perf_counter()
        elif gc.get_freeze_count():
            self.collections += 1
            self.longest_s = max(self.longest_s, time.perf_counter() - self.began)


if __name__ == "__main__":
    watch = Watch()
    gc.callbacks.append(watch)
    written = Path(sys.argv[1])
    try:
        main(sys.argv[2:])
    finally:
        written.write_text(f"{watch.longest_s * 1e3:.3f} {watch.collections}")
