"""Owns one connection to PostgreSQL that is kept between statements: no pool takes it back and asks for its reset.

For whoever writes all the time, one statement after the other, and sets nothing. Must not know what is written.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from sovren_edge.store.connection import Connection

Session = Callable[[], AbstractAsyncContextManager[Connection]]


@dataclass(frozen=True, slots=True)
class _Held:
    connection: Connection
    end: AsyncExitStack


class Steady:
    """Runs statements; made by `open_steady`. A lost connection is made anew, and one that hangs is nobody else's."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._held: _Held | None = None
        self._closed = False

    async def execute(self, query: str, *parameters: object) -> str:
        """Run a statement, a transaction of its own, and return its tag; raises EdgeError 503."""
        async with AsyncExitStack() as end:
            held, self._held = self._held, None
            if held is None:
                connection = await end.enter_async_context(self._session())
            else:
                end.push_async_exit(held.end)
                connection = held.connection
            tag = await connection.execute(query, *parameters)
            if self._held is None and not self._closed:
                # What ends the connection is passed on as it is: wrapped anew each time, it would grow without end.
                kept = end.pop_all()
                self._held = held or _Held(connection, kept)
        return tag

    async def close(self) -> None:
        """Give the connection up; one in use is given up when its statement ends."""
        self._closed = True
        held, self._held = self._held, None
        if held is not None:
            await held.end.aclose()


@asynccontextmanager
async def open_steady(session: Session) -> AsyncIterator[Steady]:
    """Hold a connection, from the first statement to the end of the block."""
    steady = Steady(session)
    try:
        yield steady
    finally:
        await steady.close()
