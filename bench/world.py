"""Owns the model of engines, callers and time in which simulate.py lets a balancer serve texts; the edge is one.

The edge asks its pool as the relay does; see sovren_edge/relay/fetch.py. Must not know what is measured.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random
from typing import cast

from callers_of_speech import ENDPOINTS
from engine import FIRST_S, SLOTS
from rivals import Engine, Rival, Run, Text
from scenarios import HEARD_S, Scenario

from pools.admission import SUCCEEDED, Event, Expired, Granted, Lease, Outcome, Waiter
from pools.demand import Demand
from pools.endpoint import Endpoint
from pools.health import ProbeResult
from pools.pool import NOBODY, Pool
from pools.settings import PoolSettings, ProbeSettings

STEP_S, PROBE_S, DRAIN_S = 0.05, ProbeSettings().interval_s, 120.0
STALL_EACH_S, PATIENCE_S = 60.0, 0.1
# An engine that has come back is cold: so slow for so long.
COLD, COLD_S = 0.3, 20.0


class World:
    """Engines, callers and time; lets one balancer serve texts."""

    def __init__(self, scenario: Scenario, texts: Sequence[Text], seed: int, make: "Make") -> None:
        self._scenario = scenario
        self._texts = texts
        self._dice = Random(seed)
        self._agenda: list[tuple[float, int, Callable[[float], None]]] = []
        self._tickets = count()
        stalls = [STALL_EACH_S * n for n in range(1, int(texts[-1].at / STALL_EACH_S) + 1) if scenario.stalls]
        self._engines = [
            Engine(speed, stalls[n::ENDPOINTS], faults)
            for n, (speed, faults) in enumerate(zip(scenario.speeds, scenario.faults, strict=True))
        ]
        # How often engines were asked.
        self.attempts = 0
        self.balancer = make(self, Random(seed + 1))

    def play(self) -> None:
        """Let everything happen."""
        for step in range(int((self._texts[-1].at + DRAIN_S) / STEP_S)):
            self._later(step * STEP_S, self.balancer.tick)
        if self._scenario.crash:
            self._later(self._texts[len(self._texts) // 2].at, self._crash)
        if self._scenario.returns:
            self._later(self._texts[len(self._texts) * 3 // 4].at, self._return)
        for text in self._texts:
            self._until(text.at)
            if text.leaves:
                self._later(text.at + PATIENCE_S, partial(self._hang_up, text))
            self.balancer.arrive(text, text.at)
        self._until(inf)

    def send(self, text: Text, index: int, now: float, lease: Lease | None = None) -> Run:
        """Send a text to an endpoint."""
        self.attempts += 1
        engine = self._engines[index]
        run = text.run = Run(text, index, now, lease)
        if engine.dead:
            text.run = None
            self._later(now, partial(self.finish, run, Outcome.REFUSED))
        elif len(engine.running) < SLOTS:
            self._start(engine, run, now)
        else:
            engine.waiting.append(run)
        return run

    def _later(self, at: float, act: Callable[[float], None]) -> None:
        heappush(self._agenda, (at, next(self._tickets), act))

    def _until(self, at: float) -> None:
        agenda = self._agenda
        while agenda and agenda[0][0] <= at:
            now, _, act = heappop(agenda)
            act(now)

    def _start(self, engine: Engine, run: Run, now: float) -> None:
        engine.running.append(run)
        silent_s = FIRST_S + run.text.work_s if self._scenario.whole else FIRST_S
        self._later(engine.after(now, silent_s), partial(self._speak, run))

    def _speak(self, run: Run, now: float) -> None:
        if run.over:
            return
        engine, text, run.begun = self._engines[run.index], run.text, True
        if engine.faults and self._dice.random() < engine.faults:
            run.begun = not self._scenario.breaks
            self.finish(run, Outcome.FAILED, now)
            return
        text.heard_at, text.run = now, run
        end = now if self._scenario.whole else engine.after(now, text.work_s)
        # A slot is held until its caller has read all, unless that is read ahead.
        end = max(end, now + text.characters * HEARD_S) if text.reads else end
        self._later(end, partial(self.finish, run, SUCCEEDED))
        self.balancer.spoke(run, now)

    def finish(self, run: Run, outcome: Outcome, now: float) -> None:
        """End a run, if it has not ended."""
        if run.over:
            return
        engine, run.over = self._engines[run.index], True
        if run in engine.running:
            engine.running.remove(run)
            if engine.waiting:
                self._start(engine, engine.waiting.popleft(), now)
        elif run in engine.waiting:
            engine.waiting.remove(run)
        self.balancer.ended(run, outcome, now)

    def _hang_up(self, text: Text, now: float) -> None:
        if text.run is not None:
            self.finish(text.run, Outcome.LEFT, now)
        elif not text.lost:
            self.balancer.leave(text, now)

    def _crash(self, now: float) -> None:
        engine = self._engines[0]
        engine.dead = True
        for run in [*engine.waiting, *engine.running]:
            self.finish(run, Outcome.FAILED, now)
        self._later(now + PROBE_S, partial(self.balancer.gone, 0))

    def _return(self, now: float) -> None:
        engine = self._engines[0]
        engine.dead, engine.speed = False, COLD
        self._later(now + COLD_S, self._warm)
        self.balancer.back(0, now)

    def _warm(self, now: float) -> None:  # noqa: ARG002 - as all that happens in its time
        self._engines[0].speed = self._scenario.speeds[0]


@dataclass(frozen=True, slots=True)
class Rule:
    """The edge's own rule, or what it is with some of its parts replaced (object, attribute, value)."""

    name: str = "the edge"
    overdue_s: float | None = None
    anonymous: bool = False
    patches: tuple[tuple[object, str, object], ...] = ()


class Edge:
    """Asks a pool as the relay does; see relay.fetch."""

    def __init__(self, world: World, dice: Random, rule: Rule) -> None:
        self._world = world
        self._anonymous = rule.anonymous
        self._waiters: dict[Text, Waiter] = {}
        # Runs that nothing was heard of yet, and those that have another one beside them.
        self._silent: dict[Run, None] = {}
        self._beside: dict[Run, Run] = {}
        names = tuple(f"127.0.0.1:{19101 + n}" for n in range(ENDPOINTS))
        self._endpoints = [Endpoint(name, "127.0.0.1", 19101 + n, SLOTS) for n, name in enumerate(names)]
        settings = PoolSettings(kind="speech", endpoints=names, slots=SLOTS, repeatable=True)
        if rule.overdue_s is not None:
            settings = settings.model_copy(update={"overdue_s": rule.overdue_s})
        self._pool = Pool("speech", settings, self._endpoints, dice.randrange, dice.random)
        for endpoint in self._endpoints:
            self._pool.observe(endpoint, ProbeResult.GOOD, 0.0)

    def arrive(self, text: Text, now: float) -> None:
        """Ask the pool for a slot."""
        caller = "" if self._anonymous else text.caller
        demand = Demand(float(text.characters), "", caller, text.priority)
        tried = frozenset(self._endpoints[index] for index in text.tried) if text.tried else NOBODY
        admission = self._pool.admit(text, now, tried, demand, again=bool(tried))
        if isinstance(admission, Lease):
            self._send(text, admission, now)
        elif isinstance(admission, Waiter):
            self._waiters[text] = admission
        else:
            text.lost = True

    def _send(self, text: Text, lease: Lease, now: float) -> Run:
        run = self._world.send(text, self._endpoints.index(lease.endpoint), now, lease)
        self._silent[run] = None
        return run

    def _part(self, run: Run) -> Run | None:
        """Let two runs of a text go on as one each; return the other one."""
        other = self._beside.pop(run, None)
        if other is not None:
            del self._beside[other]
        return other

    def spoke(self, run: Run, now: float) -> None:
        """Tell the pool of a first audio; of two runs, the other one ends."""
        self._silent.pop(run, None)
        other = self._part(run)
        if other is not None:
            self._world.finish(other, Outcome.LEFT, now)
        lease = cast("Lease", run.lease)
        lease.held_back = run.text.reads
        self._pool.spoke(lease, now)

    def ended(self, run: Run, outcome: Outcome, now: float) -> None:
        """Release a lease, and ask again where the relay would."""
        lease, text = cast("Lease", run.lease), run.text
        self._silent.pop(run, None)
        other = self._part(run)
        if other is not None:
            self._act(self._pool.release(lease, outcome, now), now)
            # A caller who leaves ends both; an error is no answer as long as the other one may bring a better one.
            text.run = other
            if outcome is Outcome.LEFT:
                self._world.finish(other, outcome, now)
            return
        again = outcome is Outcome.REFUSED
        if outcome is Outcome.FAILED:
            again = not (run.begun or text.tried or self._pool.waiting) and self._pool.budget.take(now)
        self._act(self._pool.release(lease, Outcome.LEFT if again and outcome is Outcome.FAILED else outcome, now), now)
        if again:
            text.tried |= {run.index}
            self.arrive(text, now)
        elif outcome is Outcome.FAILED:
            text.lost = True

    def leave(self, text: Text, now: float) -> None:  # noqa: ARG002 - others ask for the time
        """Give up a place in the queue."""
        self._pool.leave(self._waiters.pop(text))

    def gone(self, index: int, now: float) -> None:
        """Pass a refused probe on."""
        self._act(self._pool.observe(self._endpoints[index], ProbeResult.REFUSED, now)[1], now)

    def back(self, index: int, now: float) -> None:
        """Pass the good probes of an endpoint that has returned on."""
        for _ in range(ProbeSettings().rise):
            self._act(self._pool.observe(self._endpoints[index], ProbeResult.GOOD, now)[1], now)

    def tick(self, now: float) -> None:
        """Let the pool's time pass, and send a second time what is late."""
        self._act(self._pool.tick(now), now)
        for run in [run for run in self._silent if run not in self._beside]:
            lease, text = cast("Lease", run.lease), run.text
            tried = frozenset(self._endpoints[index] for index in text.tried)
            if self._pool.may_hedge(lease, now, tried):
                second = self._pool.admit(text, now, tried | {lease.endpoint}, lease.demand, again=True)
                if isinstance(second, Lease):
                    other = self._send(text, second, now)
                    self._beside[run], self._beside[other] = other, run

    def _act(self, events: Iterable[Event], now: float) -> None:
        for event in events:
            text = cast("Text", event.waiter.owner)
            del self._waiters[text]
            if isinstance(event, Granted):
                self._send(text, event.lease, now)
            elif isinstance(event, Expired):
                text.lost = True
            else:
                self.arrive(text, now)


Make = Callable[[World, Random], Rival | Edge]
