"""Owns the lives of one worker: the one that serves, an older one that finishes its requests, and what follows a death.

Must not know other workers, nor signals.
"""

import asyncio
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from socket import socket
from typing import Any

from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError, StartupError
from sovren_edge.process.channel import Method, channel_pair
from sovren_edge.process.deaths import Deaths
from sovren_edge.process.life import Life, begin_life
from sovren_edge.process.parts import Part, Role

# So long a new worker's endpoints are probed before it must do with what it knows.
PROBED_S = 5.0
# So long after the end of its drain a worker has to go.
ENDED_S = 5.0
# A worker whose loop has not answered for so long is ended, and begins anew.
HUNG_S, BEAT_S = 30.0, 1.0


class State(StrEnum):
    """How a worker is doing."""

    STARTING = "starting"
    SERVING = "serving"
    # It died too often: its ports are closed.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Shelter:
    """What workers are started with: the sockets of a part, the supervisor's methods, the environment, settings by hand.

    `give_up` closes a part's ports.
    """

    sockets: Callable[[Part], Sequence[tuple[str, socket]]]
    methods: Mapping[str, Method]
    environ: Callable[[], Mapping[str, str]]
    by_hand: Mapping[str, Any]
    give_up: Callable[[Part], None]
    log: FilteringBoundLogger


@dataclass(slots=True)
class Counted:
    """What is counted of one worker."""

    restarts: int = 0
    cut: int = 0


class Keeper:
    """Keeps one worker alive."""

    def __init__(self, part: Part, shelter: Shelter, counted: Counted, life: Life | None = None) -> None:
        """Keep a worker that is yet to be started, or one that runs."""
        self.part = part
        self.state = State.STARTING if life is None else State.SERVING
        self.since = time.time()
        self.counted = counted
        self.life = life
        self.retiring: Life | None = None
        self.answer: Any = None
        self._shelter = shelter
        self._log = shelter.log.bind(worker=part.name)
        self._deaths = Deaths()
        self._revived = asyncio.Event()
        self._changing = asyncio.Lock()

    @property
    def serves(self) -> bool:
        """Whether this worker listens on ports."""
        return self.part.role is not Role.LOCAL

    async def start(self) -> None:
        """Begin the first life; raises StartupError if it cannot begin."""
        self.life = await self._begin(self.part)
        await self._let_in(self.life, succeeds=False)

    async def keep(self) -> None:
        """Begin a new life after each death, until cancelled."""
        while True:
            life = self.life
            if life is None:
                raise RuntimeError("a worker is kept once it was started")
            status = await life.end()
            if life is not self.life:
                continue  # it was succeeded
            delay_s = self._died(life, status)
            if delay_s is None:
                await self._revived.wait()
                continue
            await asyncio.sleep(delay_s)
            async with self._changing:
                if life is self.life:
                    await self._begin_anew()

    async def ask(self, method: str, **given: Any) -> Any:  # noqa: ANN401 - whatever JSON knows
        """Return a worker's answer; raises its EdgeError, or 503 if there is none that could answer."""
        if self.life is None or self.state is not State.SERVING:
            raise EdgeError(503, "worker_unavailable", f"The worker {self.part.name} does not serve.", retry_after_s=1)
        return (await self.life.channel.call(method, **given)).value

    async def prepare(self, part: Part) -> Life:
        """Begin a life that is to succeed this one, and have it stand by; raises StartupError if it cannot begin."""
        life = await self._begin(part)
        with suppress(TimeoutError):
            async with asyncio.timeout(PROBED_S):
                await life.channel.call("probed")
        return life

    async def succeed(self, part: Part, life: Life, drain_s: float) -> "asyncio.Task[None] | None":
        """Let another life serve from now on; return what ends with the older one, which finishes its requests."""
        async with self._changing:
            older, self.life, self.part = self.life, life, part
            self._become(State.SERVING)
            self._deaths.forgive()
            self._revived.set()
            alive = older is not None and older.exit_status is None
            retired, ours = None, []
            if older is not None and alive:
                its, other = channel_pair()
                self.retiring, ours = older, [other]
                retired = asyncio.create_task(self._retire(older, drain_s, its))
            try:
                await self._let_in(life, *ours, succeeds=True)
            except EdgeError:
                # It is dead, and begins anew as after any death.
                self._log.warning("worker_died_succeeding")
            for end in ours:
                end.close()
            return retired

    async def stop(self, drain_s: float) -> None:
        """Have both lives finish their requests, and end."""
        await asyncio.gather(*(self._finish(life, drain_s) for life in (self.life, self.retiring) if life is not None))

    def kill(self) -> None:
        """End both lives at once."""
        for life in (self.life, self.retiring):
            if life is not None:
                life.kill()

    async def beat(self) -> None:
        """Ask how it is, again and again until cancelled, and end it if it says nothing for too long."""
        while True:
            await asyncio.sleep(BEAT_S)
            life = self.life
            if life is None or self.state is not State.SERVING or not self.serves:
                continue
            try:
                async with asyncio.timeout(HUNG_S):
                    life.beat = (await life.channel.call("beat")).value
            except TimeoutError:
                self._log.error("worker_hung", pid=life.pid, silent_s=HUNG_S)
                life.kill()
            except EdgeError:
                continue

    async def _begin(self, part: Part) -> Life:
        shelter = self._shelter
        life = begin_life(part.name, shelter.methods, shelter.environ())
        self._log.info("worker_started", pid=life.pid)
        sockets = shelter.sockets(part)
        try:
            reply = await life.channel.call(
                "start",
                pickle.dumps(part),
                [one.fileno() for _, one in sockets],
                listeners=[name for name, _ in sockets],
                by_hand=shelter.by_hand,
            )
        except EdgeError as error:
            life.kill()
            await life.end()
            raise StartupError(error.problem.detail) from None
        self.answer = reply.value
        return life

    async def _let_in(self, life: Life, *ends: socket, succeeds: bool) -> None:
        if self.serves:
            await life.channel.call("let_in", b"", [end.fileno() for end in ends], succeeds=succeeds)
        self._become(State.SERVING)

    def _died(self, life: Life, status: int) -> float | None:
        """Take note of a death; return after how long it begins anew, None if it does not."""
        delay_s = self._deaths.next_delay(time.monotonic())
        lived_s = round(time.monotonic() - life.born, 3)
        self._log.error("worker_died", pid=life.pid, exit_status=status, lived_s=lived_s, restart_in_s=delay_s)
        if delay_s is None:
            self._become(State.FAILED)
            self._revived.clear()
            self._shelter.give_up(self.part)
            self._log.error("worker_failed", advice="its ports are closed: mend what kills it, then reload")
        else:
            self._become(State.STARTING)
        return delay_s

    async def _begin_anew(self) -> None:
        self.counted.restarts += 1
        try:
            self.life = await self.prepare(self.part)
            await self._let_in(self.life, succeeds=False)
        except StartupError as error:
            self._log.error("worker_not_started", why=str(error))
        except EdgeError:
            self._log.error("worker_not_started", why="it died at once")

    async def _retire(self, life: Life, drain_s: float, end: socket) -> None:
        with end:
            await self._finish(life, drain_s, end)
        self.retiring = None

    async def _finish(self, life: Life, drain_s: float, *ends: socket) -> None:
        """Have a life finish its requests, and end."""
        try:
            if self.serves:
                descriptors = [end.fileno() for end in ends]
                drained = life.channel.call("drain", b"", descriptors, drain_s=drain_s, leave_backlog=bool(ends))
                async with asyncio.timeout(drain_s + ENDED_S):
                    cut = (await drained).value["cut"]
                self.counted.cut += cut
                self._log.info("worker_drained", pid=life.pid, cut_requests=cut)
            life.channel.tell("end")
            async with asyncio.timeout(ENDED_S):
                await life.end()
        except (TimeoutError, EdgeError):
            self._log.warning("worker_killed", pid=life.pid)
        finally:
            life.kill()
        await life.end()

    def _become(self, state: State) -> None:
        if state is not self.state:
            self.state, self.since = state, time.time()
