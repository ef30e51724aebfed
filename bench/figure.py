"""Owns what a measurement says, and what measurements have in common.

Must not know any of them.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from processes import started


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure; `mark` is what it should be, `met` is None where there is no mark."""

    title: str
    who: str
    reached: str
    mark: str = ""
    met: bool | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where and how long to measure: the proxy has one core, load and endpoints have the other."""

    work: Path
    proxy_core: int
    load_core: int
    quick: bool

    def start(self, name: str, command: Sequence[str], *, proxy: bool = False) -> AbstractContextManager[Popen[bytes]]:
        """Run a command on its core until the block ends."""
        return started(command, self.proxy_core if proxy else self.load_core, self.work / f"{name}.out")
