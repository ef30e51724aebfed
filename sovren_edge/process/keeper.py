"""Owns the lives of one worker: the one that serves, an older one that finishes its requests, and what follows a death.

Must not know other workers, nor signals.
"""

import asyncio
import pickle
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import StrEnum
from socket import socket
from typing import Any

from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError, StartupError
from sovren_edge.process.channel import Method, Reply, channel_pair
from sovren_edge.process.deaths import Deaths
from sovren_edge.process.life import Life, begin_life
from sovren_edge.process.parts import Part, Role, can_become

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
    """What workers are started with: a part's sockets, the supervisor's methods, the environment, what was set by hand.

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
    def awake(self) -> bool:
        """Whether it has answered lately, or is being begun anew; one that hangs is ended long before it is not."""
        silent = self.life is not None and time.monotonic() - self.life.heard_at > 2 * HUNG_S
        return not (silent and self.serves and self.state is State.SERVING)

    @property
    def serves(self) -> bool:
        """Whether this worker listens on ports."""
        return self.part.role is not Role.LOCAL

    async def start(self) -> None:
        """Begin the first life; raises StartupError if it cannot begin."""
        self.life = await self._begin(self.part)
        await self._let_in(self.life, succeeds=False)

    async def keep(self) -> None:
        """Look after it until cancelled: begin a new life after each death, and end one that hangs."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_alive())
            group.create_task(self._keep_awake())

    async def _keep_alive(self) -> None:
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

    async def _keep_awake(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            life = self.life
            if life is None or self.state is not State.SERVING or not self.serves:
                continue
            try:
                async with asyncio.timeout(HUNG_S):
                    life.beat = (await life.channel.call("beat")).value
                life.heard_at = time.monotonic()
            except TimeoutError:
                self._log.error("worker_hung", pid=life.pid, silent_s=HUNG_S)
                life.kill()
            except EdgeError:
                continue  # it has just died

    async def ask(self, method: str, **given: Any) -> Any:  # noqa: ANN401 - whatever JSON knows
        """Return a worker's answer; raises its EdgeError, or 503 if there is none that could answer."""
        return (await self.call(method, **given)).value

    async def call(self, method: str, **given: Any) -> Reply:  # noqa: ANN401 - whatever JSON knows
        """Return a worker's answer, and the bytes beside it; raises as `ask` does."""
        if self.life is None or self.state is not State.SERVING:
            raise EdgeError(503, "worker_unavailable", f"The worker {self.part.name} does not serve.", retry_after_s=1)
        return await self.life.channel.call(method, **given)

    def describe(self) -> dict[str, object]:
        """Return how it is doing, as JSON knows it."""
        life = self.life
        return {
            "name": self.part.name,
            "pid": None if life is None else life.pid,
            "state": self.state.value,
            "since": self.since,
            "restarts": self.counted.restarts,
            **({} if life is None else life.beat),
        }

    def silent_ports(self) -> list[dict[str, Any]]:
        """Return what can be told of its ports while it tells nothing itself."""
        return [
            {"name": one.name, "port": one.port, "kind": one.kind, "ready": False, "connections": 0, "requests": 0,
             "errors": 0}
            for one in self.part.plan.listeners
        ]  # fmt: skip

    def tell(self, method: str) -> None:
        """Send a note to a worker, and to an older one that finishes its requests."""
        for life in self._lives():
            life.channel.tell(method)

    def must_begin_anew(self, part: Part) -> bool:
        """Whether another process has to take the place of this one, for it to serve a part."""
        if not self.serves:
            return False
        serving = self.state is State.SERVING and self.life is not None and self.life.fresh
        return not serving or not can_become(self.part, part)

    async def change(self, part: Part) -> None:
        """Have the worker serve another part from now on, in place."""
        async with self._changing:
            self.part = part
            sockets = self._shelter.sockets(part)
            if self.life is not None:
                descriptors = [one.fileno() for _, one in sockets]
                names = [name for name, _ in sockets]
                await self.life.channel.call("change", pickle.dumps(part), descriptors, listeners=names)

    async def prepare(self, part: Part) -> Life:
        """Begin a life that is to succeed this one, and have it stand by; raises StartupError if it cannot begin."""
        life = await self._begin(part)
        with suppress(TimeoutError, EdgeError):
            async with asyncio.timeout(PROBED_S):
                await life.channel.call("probed")
        return life

    async def succeed(self, part: Part, life: Life, drain_s: float) -> Coroutine[object, object, None] | None:
        """Let another life serve from now on; return what has the one before finish its requests, and end."""
        async with self._changing:
            older, self.life, self.part = self.life, life, part
            self._become(State.SERVING)
            self._deaths.forgive()
            self._revived.set()
            if older is None or older.exit_status is not None:
                await self._let_in_or_die(life)
                return None
            its, ours = channel_pair()
            with its, ours:
                self.retiring = older
                drained = older.drain(drain_s, leave_backlog=True, ends=[its])
                await self._let_in_or_die(life, ours)
            return self._retire(older, drained)

    async def stop(self, drain_s: float) -> None:
        """Have its lives finish their requests, and end."""
        await asyncio.gather(*(self._finish(life, self._drained(life, drain_s)) for life in self._lives()))

    def _drained(self, life: Life, drain_s: float) -> Awaitable[int] | None:
        return life.drain(drain_s) if self.serves else None

    def kill(self) -> None:
        """End its lives at once."""
        for life in self._lives():
            life.kill()

    async def gone(self) -> None:
        """Return once its processes are no more."""
        for life in self._lives():
            life.channel.close()
            await life.end()

    def _lives(self) -> list[Life]:
        return [life for life in (self.life, self.retiring) if life is not None]

    async def _begin(self, part: Part) -> Life:
        shelter = self._shelter
        sockets = shelter.sockets(part)
        life = begin_life(part.name, shelter.methods, shelter.environ())
        self._log.info("worker_started", pid=life.pid)
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
        except asyncio.CancelledError:
            life.kill()
            raise
        self.answer = reply.value
        return life

    async def _let_in(self, life: Life, *ends: socket, succeeds: bool, again: bool = False) -> None:
        """Have callers come in; `again` says that some are waiting since the life before."""
        if self.serves:
            descriptors = [end.fileno() for end in ends]
            await life.channel.call("let_in", b"", descriptors, succeeds=succeeds, again=again)
        self._become(State.SERVING)

    async def _let_in_or_die(self, life: Life, *ends: socket) -> None:
        try:
            await self._let_in(life, *ends, succeeds=True)
        except EdgeError:
            self._log.warning("worker_died_succeeding")  # and begins anew, as after any death

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
            with ExitStack() as stack:
                ends = await self._meet(self.retiring, stack)
                await self._let_in(self.life, *ends, succeeds=False, again=True)
        except StartupError as error:
            self._log.error("worker_not_started", why=str(error))
        except EdgeError:
            self._log.error("worker_not_started", why="it died at once")

    async def _retire(self, life: Life, drained: Awaitable[int]) -> None:
        await self._finish(life, drained)
        self.retiring = None
        self._log.info("worker_retired", pid=life.pid)

    async def _finish(self, life: Life, drained: Awaitable[int] | None) -> None:
        """Have a life end once its requests are done."""
        try:
            if drained is not None:
                cut = await drained
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

    async def _meet(self, older: Life | None, stack: ExitStack) -> list[socket]:
        """Have one that still finishes its requests share with another successor; return the way to it."""
        if older is None:
            return []
        its, ours = channel_pair()
        stack.enter_context(ours)
        with its:
            await older.channel.call("give_way", b"", [its.fileno()])
        return [ours]

    def _become(self, state: State) -> None:
        if state is not self.state:
            self.state, self.since = state, time.time()
