"""Simulate how soon speech begins: the pools' own decisions, as in production, beside the rules in rivals.py.

Owns scenarios, the model of engines and callers, and the tables. Time is a number, so a minute of load takes a second.
Must not know how anybody decides: not the edge, whose rule comes from `pools`, nor its rivals. Prints Markdown: time to
first audio in milliseconds, medians over the seeds; `lost` is what was refused or broke, in all seeds together.
"""

import argparse
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf, nan
from random import Random
from typing import cast
from unittest.mock import patch

from callers_of_speech import ENDPOINTS, LONGEST, SIGMA
from engine import FIRST_S, RATE, SLOTS
from rivals import RIVALS, Engine, Rival, Run, Text

from pools import estimate, speech
from pools.admission import SUCCEEDED, Event, Expired, Granted, Lease, Outcome, Waiter
from pools.balancer import least_inflight
from pools.demand import Demand, Priority
from pools.endpoint import Endpoint
from pools.health import ProbeResult
from pools.pool import NOBODY, Pool
from pools.settings import PoolSettings, ProbeSettings

MU = 4.4998
# A fifteenth of a second is heard for each character, as in engine.py.
HEARD_S = 1 / 15
SHORT, LONG = 100, 500
STEP_S, PROBE_S, DRAIN_S = 0.05, ProbeSettings().interval_s, 120.0
STALL_EACH_S, PATIENCE_S = 60.0, 0.1
# Arrivals in bursts: how much faster than the mean they come in one of so many seconds, and in the others.
BURST, LULL, BURST_EACH_S = 2.0, 0.5, 3.0
GREEDY, OTHERS, CALLERS = 20, 9, 1000
CLASSES = {Priority.INTERACTIVE: 0.2, Priority.STANDARD: 0.6, Priority.BULK: 0.2}
QUANTILES = (
    *((share, 0, LONGEST) for share in (0.5, 0.95, 0.99)),
    (0.95, 0, SHORT), (0.95, LONG + 1, LONGEST), (0.99, LONG + 1, LONGEST),
)  # fmt: skip
COLUMNS = ("p50", "p95", "p99", f"up to {SHORT} p95", f"over {LONG} p95", f"over {LONG} p99", "lost")


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is asked, and of which engines; `load` is the share of what all slots can hold."""

    title: str
    load: float = 0.85
    bimodal: bool = False
    bursts: bool = False
    noise: float = 0.0
    whole: bool = False
    speeds: tuple[float, ...] = (1.0,) * ENDPOINTS
    stalls: bool = False
    crash: bool = False
    faults: float = 0.0
    leaving: float = 0.0
    readers: float = 0.0
    ahead: bool = False
    greedy: bool = False
    classes: bool = False


SCENARIOS = {
    "load-0.5": Scenario("load 0.5", 0.5),
    "load-0.7": Scenario("load 0.7", 0.7),
    "load-0.85": Scenario("load 0.85"),
    "load-0.95": Scenario("load 0.95", 0.95),
    "bursts": Scenario("bursts: a second at load 1.6, two at 0.4, on average", 0.8, bursts=True),
    "bimodal": Scenario("texts of 20-80 characters, and one in ten of 1,000-3,000", bimodal=True),
    "noisy": Scenario("costs that are lognormal around the line (sigma 0.4)", noise=0.4),
    "whole": Scenario("engines that answer when all is spoken", whole=True),
    "slow": Scenario("one endpoint at 40 % of the speed", speeds=(0.4, 1.0, 1.0, 1.0, 1.0)),
    "stall": Scenario("each minute another endpoint stalls for 10 s, load 0.7", 0.7, stalls=True),
    "crash": Scenario("an endpoint dies at mid-run, load 0.7", 0.7, crash=True),
    "faulty": Scenario("an endpoint answers 30 % with an error at once, load 0.7", 0.7, faults=0.3),
    "hang-ups": Scenario("20 % of callers leave after 100 ms, load 0.95", 0.95, leaving=0.2),
    "readers": Scenario("5 % of callers read in real time and hold their slots", readers=0.05),
    "read-ahead": Scenario("the same, read ahead", readers=0.05, ahead=True),
    "greedy": Scenario("one of ten callers asks 20 times what each other does, load 1.2", 1.2, greedy=True),
    "classes": Scenario("20 % interactive, 60 % standard, 20 % bulk, load 0.95", 0.95, classes=True),
}


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
            Engine(speed, stalls[n::ENDPOINTS], 0.0 if n else scenario.faults)
            for n, speed in enumerate(scenario.speeds)
        ]
        self.balancer = make(self, Random(seed + 1))

    def play(self) -> None:
        """Let everything happen."""
        for step in range(int((self._texts[-1].at + DRAIN_S) / STEP_S)):
            self._later(step * STEP_S, self.balancer.tick)
        if self._scenario.crash:
            self._later(self._texts[len(self._texts) // 2].at, self._crash)
        for text in self._texts:
            self._until(text.at)
            if text.leaves:
                self._later(text.at + PATIENCE_S, partial(self._hang_up, text))
            self.balancer.arrive(text, text.at)
        self._until(inf)

    def send(self, text: Text, index: int, now: float, lease: Lease | None = None) -> Run:
        """Send a text to an endpoint."""
        engine = self._engines[index]
        run = text.run = Run(text, index, now, lease)
        if engine.dead:
            text.run = None
            self._later(now, partial(self._finish, run, Outcome.REFUSED))
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
            self._finish(run, Outcome.FAILED, now)
            return
        text.heard_at = now
        end = now if self._scenario.whole else engine.after(now, text.work_s)
        # A slot is held until its caller has read all, unless that is read ahead.
        end = max(end, now + text.characters * HEARD_S) if text.reads else end
        self._later(end, partial(self._finish, run, SUCCEEDED))
        self.balancer.spoke(run, now)

    def _finish(self, run: Run, outcome: Outcome, now: float) -> None:
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
            self._finish(text.run, Outcome.LEFT, now)
        elif not text.lost:
            self.balancer.leave(text, now)

    def _crash(self, now: float) -> None:
        engine = self._engines[0]
        engine.dead = True
        for run in [*engine.waiting, *engine.running]:
            self._finish(run, Outcome.FAILED, now)
        self._later(now + PROBE_S, partial(self.balancer.gone, 0))


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
        self._send = world.send
        self._anonymous = rule.anonymous
        self._waiters: dict[Text, Waiter] = {}
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
            self._send(text, self._endpoints.index(admission.endpoint), now, admission)
        elif isinstance(admission, Waiter):
            self._waiters[text] = admission
        else:
            text.lost = True

    def spoke(self, run: Run, now: float) -> None:
        """Tell the pool of a first audio."""
        lease = cast("Lease", run.lease)
        lease.held_back = run.text.reads
        self._pool.spoke(lease, now)

    def ended(self, run: Run, outcome: Outcome, now: float) -> None:
        """Release a lease, and ask again where the relay would."""
        lease, text = cast("Lease", run.lease), run.text
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

    def tick(self, now: float) -> None:
        """Let the pool's time pass."""
        self._act(self._pool.tick(now), now)

    def _act(self, events: Iterable[Event], now: float) -> None:
        for event in events:
            text = cast("Text", event.waiter.owner)
            del self._waiters[text]
            if isinstance(event, Granted):
                self._send(text, self._endpoints.index(event.lease.endpoint), now, event.lease)
            elif isinstance(event, Expired):
                text.lost = True
            else:
                self.arrive(text, now)


Make = Callable[[World, Random], Rival | Edge]


def texts_of(scenario: Scenario, arrivals: int, seed: int) -> list[Text]:
    """Return the texts that callers ask for, in order; the same for every balancer."""
    dice = Random(seed)
    texts = [_text(scenario, dice) for _ in range(arrivals)]
    held_s = sum(max(text.work_s, text.characters * HEARD_S if text.reads else 0.0) for text in texts)
    rate = scenario.load * SLOTS * sum(scenario.speeds) / (FIRST_S + held_s / arrivals)
    at = 0.0
    for text in texts:
        burst = BURST if at % BURST_EACH_S < 1 else LULL
        at += dice.expovariate(rate * (burst if scenario.bursts else 1.0))
        text.at, text.reads = at, text.reads and not scenario.ahead
    return texts


def _text(scenario: Scenario, dice: Random) -> Text:
    length = round(dice.lognormvariate(MU, SIGMA))
    if scenario.bimodal:
        length = dice.randint(1000, 3000) if dice.random() < 0.1 else dice.randint(20, 80)
    length = min(LONGEST, max(1, length))
    work_s = length / RATE * (dice.lognormvariate(0.0, scenario.noise) if scenario.noise else 1.0)
    caller, priority, group = str(dice.randrange(CALLERS)), Priority.STANDARD, ""
    if scenario.greedy:
        asker = dice.randrange(GREEDY + OTHERS)
        caller, group = (str(asker), "the others") if asker < OTHERS else ("greedy", "the greedy one")
    if scenario.classes:
        priority = dice.choices(list(CLASSES), list(CLASSES.values()))[0]
        group = priority.name.lower()
    reads, leaves = dice.random() < scenario.readers, dice.random() < scenario.leaving
    return Text(0.0, length, work_s, caller, priority, group, reads, leaves)


def figures(texts: Iterable[Text]) -> list[float]:
    """Return a row of the table; of callers who leave nothing is measured, lest only those count who got through."""
    heard = sorted((1000 * (text.heard_at - text.at), text.characters) for text in texts if text.heard_at < inf)
    row = []
    for share, least, most in QUANTILES:
        times = [ms for ms, characters in heard if least <= characters <= most]
        row.append(times[int(len(times) * share)] if times else nan)
    return [*row, sum(text.lost for text in texts)]


def run(scenario: Scenario, make: Make, seeds: int, arrivals: int) -> dict[str, list[float]]:
    """Return a row for each group of callers: medians over the seeds, and the sum of what was lost."""
    rows: dict[str, list[list[float]]] = {}
    for seed in range(seeds):
        texts = texts_of(scenario, arrivals, seed)
        World(scenario, texts, seed, make).play()
        counted = [text for text in texts if not text.leaves]
        for group in sorted({text.group for text in counted}):
            rows.setdefault(group, []).append(figures([text for text in counted if text.group == group]))
    return {
        group: [*(statistics.median(column) for column in [*zip(*of, strict=True)][:-1]), sum(row[-1] for row in of)]
        for group, of in rows.items()
    }


def print_table(scenario: Scenario, rules: Sequence[Rule | tuple[str, type[Rival]]], seeds: int, arrivals: int) -> None:
    """Run one scenario by each rule, and print what came of it as soon as it is known."""
    print(f"\n**{scenario.title}**, {seeds} seeds of {arrivals:,} texts\n")
    print(f"| balancer | {' | '.join(COLUMNS)} |\n|---|{'--:|' * len(COLUMNS)}")
    for rule in rules:
        with ExitStack() as stack:
            for replaced in rule.patches if isinstance(rule, Rule) else ():
                stack.enter_context(patch.object(*replaced))
            name, make = (rule.name, partial(Edge, rule=rule)) if isinstance(rule, Rule) else rule
            rows = run(scenario, make, seeds, arrivals)
        for group, row in rows.items():
            print("|", ", ".join(filter(None, (name, group))), *(f"| {cell:,.0f}" for cell in row), "|", flush=True)


def ablations() -> Sequence[Rule]:
    """Return the edge's rule, and what is left of it without each of its parts."""
    seconds = estimate.Estimates.seconds
    of_all = lambda self, characters, *_: seconds(self, characters)  # noqa: E731
    by_inflight = lambda _, endpoints, *now: least_inflight(list(endpoints), Random(now[-1]).randrange)  # noqa: E731
    return [
        Rule(),
        Rule("without an order by estimate", overdue_s=0.0),
        Rule("without anybody overdue", overdue_s=inf),
        Rule("without fairness", anonymous=True),
        Rule("without classes", patches=((speech, "SHIFT_S", dict.fromkeys(Priority, 0.0)),)),
        Rule("choice by requests in flight", patches=((speech.Speech, "choose", by_inflight),)),
        Rule("choice without remaining work", patches=((speech.Load, "begin", lambda *_: None),)),
        Rule("choice without times to first audio", patches=((speech.Load, "spoke", lambda *_: None),)),
        Rule("choice without errors", patches=((speech, "ERROR_S", 0.0),)),
        Rule("estimates that learn nothing", patches=((estimate.Estimates, "observe", lambda *_: None),)),
        Rule("one estimate for all endpoints", patches=((estimate.Estimates, "seconds", of_all),)),
    ]


def sweeps() -> Iterator[tuple[str, list[Rule]]]:
    """Yield scenarios, and the edge's rule with other constants that matter there."""
    for name in ("load-0.7", "load-0.85", "load-0.95", "bimodal"):
        yield name, [Rule(f"overdue_s {value}", value) for value in (0.4, 0.7, 1.0, 1.5, inf)]
        yield (
            name,
            [Rule(f"PATIENCE {value}", patches=((speech, "PATIENCE", value),)) for value in (1.0, 2.0, 4.0, 8.0)],
        )
    for name, constant, values in (
        ("faulty", "ERROR_S", (0.0, 0.3, 1.0, 3.0)),
        ("faulty", "FADE_S", (3.0, 10.0, 30.0)),
        ("slow", "FADE_S", (3.0, 10.0, 30.0)),
        ("whole", "FADE_S", (3.0, 10.0, 30.0)),
    ):
        yield name, [Rule(f"{constant} {value}", patches=((speech, constant, value),)) for value in values]
    shifts = [(value, {**speech.SHIFT_S, Priority.INTERACTIVE: value}) for value in (0.0, -0.25, -0.5, -1.0, -2.0)]
    yield "classes", [Rule(f"SHIFT_S {value}", patches=((speech, "SHIFT_S", shift),)) for value, shift in shifts]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="only this one; may be repeated")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each balancer (default 5)")
    parser.add_argument("--arrivals", type=int, default=20_000, help="texts of a run (default 20,000)")
    parser.add_argument("--quick", action="store_true", help="one short run of each: does it work at all?")
    parser.add_argument("--ablate", action="store_true", help="the edge without each of its parts")
    parser.add_argument("--sweep", action="store_true", help="the edge with other constants")
    asked = parser.parse_args()
    seeds, arrivals = (1, 1000) if asked.quick else (asked.seeds, asked.arrivals)
    names = asked.scenario or list(SCENARIOS)
    for name in names if asked.ablate or not asked.sweep else ():
        print_table(SCENARIOS[name], ablations() if asked.ablate else (Rule(), *RIVALS.items()), seeds, arrivals)
    for name, rules in sweeps() if asked.sweep else ():
        if name in names:
            print_table(SCENARIOS[name], rules, seeds, arrivals)


if __name__ == "__main__":
    main()
