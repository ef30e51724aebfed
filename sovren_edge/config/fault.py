"""Owns what a configuration fault is, and how it reads.

Must not know how faults are found.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from sovren_edge.errors import StartupError


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: the setting's dotted path, what stands there, what should, and what may help."""

    path: str
    found: str
    expected: str
    hint: str = ""

    def __str__(self) -> str:
        """Four short lines at most."""
        lines = [self.path, f"  found     {self.found}", f"  expected  {self.expected}"]
        return "\n".join([*lines, f"  hint      {self.hint}"] if self.hint else lines)


class ConfigurationError(StartupError):
    """The configuration cannot be used; carries every fault."""

    def __init__(self, source: str, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        super().__init__("\n".join([f"{source} has {count}", *map(str, self.faults)]))


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `did you mean ...?` for the most similar known word, or nothing."""
    near = get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""


def one_of(words: Iterable[str]) -> str:
    """Join words for a reader: `a, b or c`; `nothing` for none."""
    known = sorted(words)
    return " or ".join(filter(None, [", ".join(known[:-1]), *known[-1:]])) or "nothing"
