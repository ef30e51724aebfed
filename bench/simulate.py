"""Simulate how soon speech begins: the pools' own decisions, as in production, beside the rules in rivals.py.

Owns the tables. Time is a number, so a minute of load takes a second. Must not know how anybody decides, nor what
happens: see world.py and scenarios.py. Prints Markdown: time to first audio in milliseconds, medians over the seeds;
`asked` is how often engines were asked for each text, `lost` what was refused or broke, in all seeds together.
"""

import argparse
import statistics
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from math import inf, nan
from unittest.mock import patch

from ablations import ablations, sweeps
from callers_of_speech import LONGEST
from rivals import RIVALS, Rival, Text
from scenarios import SCENARIOS, Scenario, texts_of
from world import Edge, Make, Rule, World

SHORT, LONG = 100, 500
QUANTILES = (
    *((share, 0, LONGEST) for share in (0.5, 0.95, 0.99)),
    (0.95, 0, SHORT), (0.95, LONG + 1, LONGEST), (0.99, LONG + 1, LONGEST),
)  # fmt: skip
COLUMNS = ("p50", "p95", "p99", f"up to {SHORT} p95", f"over {LONG} p95", f"over {LONG} p99", "asked", "lost")


def figures(texts: Iterable[Text]) -> list[float]:
    """Return a row's times; of callers who leave nothing is measured, lest only those count who got through."""
    heard = sorted((1000 * (text.heard_at - text.at), text.characters) for text in texts if text.heard_at < inf)
    row = []
    for share, least, most in QUANTILES:
        times = [ms for ms, characters in heard if least <= characters <= most]
        row.append(times[int(len(times) * share)] if times else nan)
    return row


def run(scenario: Scenario, make: Make, seeds: int, arrivals: int) -> dict[str, list[float]]:
    """Return a row for each group of callers: medians over the seeds, and the sum of what was lost."""
    rows: dict[str, list[list[float]]] = {}
    for seed in range(seeds):
        texts = texts_of(scenario, arrivals, seed)
        world = World(scenario, texts, seed, make)
        world.play()
        counted = [text for text in texts if not text.leaves]
        for group in sorted({text.group for text in counted}):
            mine = [text for text in counted if text.group == group]
            lost = sum(text.lost for text in mine)
            rows.setdefault(group, []).append([*figures(mine), world.attempts / len(texts), lost])
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
            *times, attempts, lost = row
            cells = [*(f"{ms:,.0f}" for ms in times), f"{attempts:.2f}", f"{lost:,.0f}"]
            print("|", " | ".join((", ".join(filter(None, (name, group))), *cells)), "|", flush=True)


def everybody() -> Sequence[Rule | tuple[str, type[Rival]]]:
    """Return the edge's rule and its rivals'."""
    return (Rule(), *RIVALS.items())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="only this one; may be repeated")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each balancer (default 5)")
    parser.add_argument("--arrivals", type=int, default=20_000, help="texts of a run (default 20,000)")
    parser.add_argument("--quick", action="store_true", help="one short run of each: does it work at all?")
    parser.add_argument("--ablate", action="store_true", help="the edge without each of its parts, where they matter")
    parser.add_argument("--sweep", action="store_true", help="the edge with other constants")
    asked = parser.parse_args()
    seeds, arrivals = (1, 1000) if asked.quick else (asked.seeds, asked.arrivals)
    names = asked.scenario or list(SCENARIOS)
    tables = ablations() if asked.ablate else sweeps() if asked.sweep else ((name, everybody()) for name in SCENARIOS)
    for name, rules in tables:
        if name in names:
            print_table(SCENARIOS[name], rules, seeds, arrivals)


if __name__ == "__main__":
    main()
