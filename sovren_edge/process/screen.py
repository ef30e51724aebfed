"""Owns the one screen that a person sees when the program serves.

Must not know how anything is served.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sovren_edge.config.plan import Plan
from sovren_edge.config.resolved import PlannedListener
from sovren_edge.config.scope import CHAT

SENTENCE = "Good morning. The board is in session."
QUESTION = "Where should we grow first?"


def print_screen(
    plan: Plan, state_dir: Path, pools: Sequence[Mapping[str, Any]], console: Console | None = None
) -> None:
    """Show the ports, the pools (as relay.metrics.describe_pool tells of them) and what to try next."""
    console = console or Console(highlight=False)
    where = (
        f"everything on 127.0.0.1, state in {_short(state_dir)}"
        if plan.local
        else f"node {plan.node or '(the only one)'}"
    )
    console.print(f"\n[bold]sovren-edge {version('sovren-edge')}[/bold] serves: {where}\n")
    console.print(_ports(plan))
    console.print()
    if pools:
        console.print(_pools(pools))
    console.print(_next(plan, _short(state_dir)), highlight=False, soft_wrap=True, markup=False)


def _short(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _ports(plan: Plan) -> Table:
    table = Table("port", "name", "kind", "serves", box=None, padding=(0, 2, 0, 0), header_style="dim")
    for listener in sorted(plan.listeners, key=lambda one: one.port):
        table.add_row(str(listener.port), listener.name, listener.kind, _serves(plan, listener))
    return table


def _serves(plan: Plan, listener: PlannedListener) -> str:
    if listener.handler is not None:
        return type(listener.handler).__name__
    if listener.kind == "status":
        return "state and metrics of " + (listener.pool or "everything")
    pool = plan.pools.get(listener.pool or "")
    return " > ".join(pool.tiers or (pool.name,)) if pool else ""


def _pools(pools: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("pool", "ready", "slots", "endpoints", box=None, padding=(0, 2, 0, 0), header_style="dim")
    for pool in pools:
        present = [endpoint for endpoint in pool["endpoints"] if not endpoint["absent"]]
        ready = f"{sum(endpoint['ready'] for endpoint in present)} of {len(present)}" if present else "absent here"
        where = " ".join(endpoint["address"] for endpoint in pool["endpoints"])
        table.add_row(pool["name"], ready, str(sum(endpoint["slots"] for endpoint in present)), where)
    return table


def _next(plan: Plan, state_dir: Path) -> str:
    speaking = next((one for one in plan.listeners if one.kind == "balance" and one.name == "tts-master"), None)
    status = next((one for one in plan.listeners if one.kind == "status"), None)
    lines = ["\nTry next (Ctrl-C ends everything):\n"]
    if speaking is not None:
        body = f'{{"model":"tts-1","input":"{SENTENCE}","voice":"heart","response_format":"wav"}}'
        lines.append(f"  curl localhost:{speaking.port}/v1/audio/speech -d '{body}' -o hello.wav")
    if status is not None:
        lines.append(f"  curl localhost:{status.port}/status")
        lines.append(f"  curl localhost:{status.port}/metrics")
    if plan.local:
        lines += _question(plan, state_dir)
    return "\n".join(lines) + "\n"


def _question(plan: Plan, state_dir: Path) -> list[str]:
    """Return how the executives are asked, or how they get a model."""
    board = next((one for one in plan.listeners if one.name == "executives"), None)
    if board is None:
        return []
    if CHAT not in plan.services:
        return [
            "\nA chat model for the executives: make run LLM=1 brings a small one; services.chat names one of your own."
        ]
    body = f'{{"executiveId":"ceo","message":"{QUESTION}"}}'
    program = _short(Path(sys.executable).with_name("sovren-edge"))
    token = f"$({program} token --subject founder --state-dir {state_dir} | tail -1)"
    ask = f"  curl localhost:{board.port}/executives/interact -H \"Authorization: Bearer {token}\" -d '{body}'"
    small = any(engine.kind == "chat" for engine in plan.engines)
    return [ask, "\nIt answers with a demonstration model: too small for advice."] if small else [ask]
