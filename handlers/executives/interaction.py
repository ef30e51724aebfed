"""Owns an answer in the making, which any number of callers follow, and that equal questions share one.

Must not know how an answer is made, nor how it is written to callers.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from structlog.typing import FilteringBoundLogger

from handlers.executives.events import Done, End, Event, Failed
from handlers.executives.recording import Recording
from sovren_edge.handler import EdgeError, Problem

# A page asks again up to three times when an answer is slow.
SHARED_S = 30.0
# Who leaves may be about to ask again.
LINGER_S = 2.0
GIVEN_UP = Problem(503, "answer_given_up", "The answer was given up before it was whole.", retry_after_s=1)
_INTERNAL = Problem(500, "internal_error", "The answer met an internal fault.")

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class Interaction:
    """One answer: its events so far, and its speech; whoever comes late is told all of it.

    `fingerprint` is of what was asked. Once nobody has followed it for `linger_s`, it is given up.
    """

    def __init__(self, recording: Recording, fingerprint: bytes, linger_s: float = LINGER_S) -> None:
        self.recording = recording
        self.fingerprint = fingerprint
        self._linger_s = linger_s
        self._events: list[Event] = []
        self._news = asyncio.Event()
        self._followers = 0
        self._task: asyncio.Task[None] | None = None
        self._given_up = False
        self._end_timer: asyncio.TimerHandle | None = None

    @property
    def end(self) -> End | None:
        """How it ended; None while it goes on."""
        last = self._events[-1] if self._events else None
        return last if isinstance(last, Done | Failed) else None

    @property
    def shareable(self) -> bool:
        """Whether somebody may still begin to follow it: it goes on, or has ended well."""
        return not self._given_up and not isinstance(self.end, Failed)

    def begin(
        self, work: Callable[["Interaction"], Awaitable[None]], spawn: Spawn, log: FilteringBoundLogger
    ) -> "asyncio.Task[None]":
        """Have the answer made; whatever goes wrong is an event."""
        self._task = spawn(self._make(work, log))
        return self._task

    def tell(self, event: Event) -> None:
        """Have all who follow know of an event; nothing comes behind an end."""
        if self.end is None:
            self._events.append(event)
            self._news.set()
            self._news = asyncio.Event()

    async def events(self, beat_s: float | None = None) -> AsyncIterator[Sequence[Event]]:
        """Yield all events to the end, as many as there are at once; none if nothing has happened for `beat_s`."""
        place = 0
        while True:
            while fresh := self._events[place:]:
                yield fresh
                place += len(fresh)
            if self.end is not None:
                return
            try:
                async with asyncio.timeout(beat_s):
                    await self._news.wait()
            except TimeoutError:
                yield ()

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Keep it going while the block runs."""
        self._followers += 1
        if self._end_timer is not None:
            self._end_timer.cancel()
        try:
            yield
        finally:
            self._followers -= 1
            if self._followers == 0 and self.end is None:
                self._end_timer = asyncio.get_running_loop().call_later(self._linger_s, self._give_up)

    def _give_up(self) -> None:
        if self.end is None and self._task is not None:
            self._given_up = True
            self._task.cancel()

    async def _make(self, work: Callable[["Interaction"], Awaitable[None]], log: FilteringBoundLogger) -> None:
        try:
            await work(self)
        except EdgeError as error:
            self.tell(Failed(error.problem))
        except Exception:
            log.exception("answer_failed")
            self.tell(Failed(_INTERNAL))
        finally:
            self.tell(Failed(GIVEN_UP))
            if isinstance(self.end, Failed):
                await self.recording.discard()


class Desk:
    """The answers in the making and those of the last `SHARED_S`, by what was asked; `now` counts seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._known: dict[Hashable, Interaction] = {}
        self._ended: deque[tuple[float, Hashable, Interaction]] = deque()

    def find(self, key: Hashable) -> Interaction | None:
        """Return the answer to the same question, if there is one to share."""
        while self._ended and self._now() - self._ended[0][0] >= SHARED_S:
            _, old, interaction = self._ended.popleft()
            self._forget(old, interaction)
        known = self._known.get(key)
        return known if known is not None and known.shareable else None

    def put(self, key: Hashable, interaction: Interaction, task: "asyncio.Task[None]") -> None:
        """Have others share an answer from now on; one that fails is shared with nobody who comes later."""
        self._known[key] = interaction
        task.add_done_callback(lambda _: self._note_end(key, interaction))

    def _note_end(self, key: Hashable, interaction: Interaction) -> None:
        if isinstance(interaction.end, Done):
            self._ended.append((self._now(), key, interaction))
        else:
            self._forget(key, interaction)

    def _forget(self, key: Hashable, interaction: Interaction) -> None:
        if self._known.get(key) is interaction:
            del self._known[key]
