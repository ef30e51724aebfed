"""Owns what simulate.py lets happen: how many ask for how much, of which engines, and what goes wrong.

Must not know who serves it. The same seed makes the same texts, whoever balances them.
"""

from dataclasses import dataclass
from random import Random

from callers_of_speech import CALLERS, ENDPOINTS, LONGEST, SIGMA
from engine import FIRST_S, RATE, SLOTS
from rivals import Text

from pools.demand import Priority

MU = 4.4998
# A fifteenth of a second is heard for each character, as in engine.py.
HEARD_S = 1 / 15
# Arrivals in bursts: how much faster than the mean they come in one of so many seconds, and in the others.
BURST, LULL, BURST_EACH_S = 2.0, 0.5, 3.0
# Whose texts are of whom is of no weight where callers are so many.
MANY = 1000
CLASSES = {Priority.INTERACTIVE: 0.2, Priority.STANDARD: 0.6, Priority.BULK: 0.2}


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
    returns: bool = False
    faults: tuple[float, ...] = (0.0,) * ENDPOINTS
    breaks: bool = False
    leaving: float = 0.0
    readers: float = 0.0
    ahead: bool = False
    callers: int = MANY
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
    "faulty": Scenario(
        "an endpoint answers 30 % with an error at once, load 0.7", 0.7, faults=(0.3, 0.0, 0.0, 0.0, 0.0)
    ),
    "broken": Scenario(
        "an endpoint answers all with an error at once, load 0.7", 0.7, faults=(1.0, 0.0, 0.0, 0.0, 0.0)
    ),
    "failing": Scenario(
        "all endpoints break half of the connections, load 0.4", 0.4, faults=(0.5,) * ENDPOINTS, breaks=True
    ),
    "return": Scenario("the same, and comes back cold", 0.7, crash=True, returns=True),
    "hang-ups": Scenario("20 % of callers leave after 100 ms, load 0.95", 0.95, leaving=0.2),
    "readers": Scenario("5 % of callers read in real time and hold their slots", readers=0.05),
    "read-ahead": Scenario("the same, read ahead", readers=0.05, ahead=True),
    "twenty": Scenario("twenty callers", callers=CALLERS),
    "greedy": Scenario("the same, and one more who asks for as much as all of them", callers=CALLERS, greedy=True),
    "classes": Scenario("20 % interactive, 60 % standard, 20 % bulk, load 0.95", 0.95, classes=True),
}


def texts_of(scenario: Scenario, arrivals: int, seed: int) -> list[Text]:
    """Return the texts that callers ask for, in order; those of a greedy one come on top."""
    texts = _arriving(scenario, arrivals, seed)
    if not scenario.greedy:
        return texts
    more = [text for text in _arriving(scenario, arrivals, seed + 500) if text.at < texts[-1].at]
    for text in texts:
        text.group = "the others"
    for text in more:
        text.caller, text.group = "greedy", "the greedy one"
    return sorted([*texts, *more], key=lambda text: text.at)


def _arriving(scenario: Scenario, arrivals: int, seed: int) -> list[Text]:
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
    caller, priority, group = str(dice.randrange(scenario.callers)), Priority.STANDARD, ""
    if scenario.classes:
        priority = dice.choices(list(CLASSES), list(CLASSES.values()))[0]
        group = priority.name.lower()
    reads, leaves = dice.random() < scenario.readers, dice.random() < scenario.leaving
    return Text(0.0, length, work_s, caller, priority, group, reads, leaves)
