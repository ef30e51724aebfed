"""Owns what simulate.py takes away from the edge, a part at a time, and which of its constants it changes.

Must not know what comes of it.
"""

from collections.abc import Iterator
from math import inf
from random import Random

from world import Rule

from pools import callers, endpoint, estimate, outlier, retry, speech
from pools.balancer import least_inflight
from pools.demand import Priority


def ablations() -> Iterator[tuple[str, list[Rule]]]:
    """Yield scenarios, the edge's rule, and what is left of it without each of the parts that matter there."""
    seconds = estimate.Estimates.seconds
    of_all = lambda self, characters, *_: seconds(self, characters)  # noqa: E731
    by_inflight = lambda _, endpoints, *now: least_inflight(list(endpoints), Random(now[-1]).randrange)  # noqa: E731
    without: dict[str, list[Rule]] = {
        "load-0.85": [
            Rule("without an order by estimate", overdue_s=0.0),
            Rule("without anybody overdue", overdue_s=inf),
            Rule("estimates that learn nothing", patches=((estimate.Estimates, "observe", lambda *_: None),)),
        ],
        "load-0.95": [Rule("every slot for who is overdue", patches=((speech, "OTHERS_FIRST", 0),))],
        "greedy": [
            Rule("without anybody greedy", patches=((callers, "GREEDY", inf),)),
            Rule("without any fairness", anonymous=True),
        ],
        "classes": [Rule("without classes", patches=((speech, "SHIFT_S", dict.fromkeys(Priority, 0.0)),))],
        "slow": [
            Rule("choice by requests in flight", patches=((speech.Speech, "choose", by_inflight),)),
            Rule("choice without remaining work", patches=((speech.Load, "begin", lambda *_: None),)),
            Rule("choice without times to first audio", patches=((speech.Load, "spoke", lambda *_: None),)),
            Rule("one estimate for all endpoints", patches=((estimate.Estimates, "seconds", of_all),)),
        ],
        "faulty": [Rule("choice without errors", patches=((speech, "ERROR_S", 0.0),))],
        "stall": [Rule("without hedges", patches=((retry, "HEDGE_SHARE", 0.0),))],
        "broken": [Rule("without ejections", patches=((outlier, "CONSECUTIVE_ERRORS", inf),))],
        "failing": [
            Rule("without repeats", patches=((retry, "SHARE", 0.0), (retry, "LEAST", 0))),
            Rule("repeats without a budget", patches=((retry, "SHARE", inf),)),
        ],
        "return": [Rule("without a slow start", patches=((endpoint, "SLOW_START_S", 1e-9),))],
    }
    for name, rules in without.items():
        yield name, [Rule(), *rules]


def sweeps() -> Iterator[tuple[str, list[Rule]]]:
    """Yield scenarios, and the edge's rule with other constants that matter there."""
    for name in ("load-0.7", "load-0.85", "load-0.95", "bimodal"):
        yield name, [Rule(f"overdue_s {value}", value) for value in (0.2, 0.3, 0.4, 0.6, 1.0, inf)]
        yield (
            name,
            [Rule(f"PATIENCE {value}", patches=((speech, "PATIENCE", value),)) for value in (2.0, 4.0, 8.0, 16.0)],
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
