"""Owns the seam between a gateway's process and the one that succeeds it: a line, and pages of what is known.

Must not know what is handed over, nor how a line is made. Pages and calls are read by other versions of this program:
what they say is never changed, only added to.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

# What one page holds at most, about: more would hold up a loop for too long.
PAGE_BYTES, PAGE_ROWS = 1 << 18, 1000


@dataclass(frozen=True, slots=True)
class Page:
    """A part of what a process knows: values that JSON knows, by name, and bytes."""

    given: Mapping[str, Any]
    blob: bytes = b""


class Told(Protocol):
    """A message that has come over a line."""

    @property
    def given(self) -> Mapping[str, Any]:
        """Its values by name."""
        ...

    @property
    def blob(self) -> bytes:
        """The bytes beside them."""
        ...


class Answer(Protocol):
    """What a call over a line comes back with."""

    @property
    def value(self) -> Any:  # noqa: ANN401 - whatever JSON knows
        """The answer itself."""
        ...


class Line(Protocol):
    """A way to another process: messages arrive in the order in which they were sent."""

    closed: asyncio.Event

    async def call(self, method: str, blob: bytes = b"", **given: Any) -> Answer:  # noqa: ANN401 - whatever JSON knows
        """Return the other process's answer; raises EdgeError, also when it has gone."""
        ...

    def tell(self, method: str, blob: bytes = b"", **given: Any) -> None:  # noqa: ANN401 - whatever JSON knows
        """Send what has no answer; nobody hears it where the other process has gone."""
        ...

    def close(self) -> None:
        """End it."""
        ...


Method = Callable[[Any], Awaitable[object] | object]
Connect = Callable[[Mapping[str, Method]], Line]


class Known(Protocol):
    """Something that a process knows, and its successor needs."""

    def pages(self) -> Iterator[Page]:
        """Yield all of it, each page quickly; others may run between two pages."""
        ...

    def take(self, page: Page) -> None:
        """Know what stands on a page of another process's."""
        ...
