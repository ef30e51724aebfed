"""Owns what a model is told before it answers: who it is, what was said, and what is asked.

Must not know the model's server.
"""

import json
from collections.abc import Iterable, Iterator, Sequence

from pydantic import JsonValue

from handlers.executives.completion import Turn
from handlers.executives.records import Exchange
from handlers.executives.roster import Executive

# Of a conversation, the newest that together are no longer than this many characters.
HISTORY_CHARACTERS = 12_000
_MANNER = (
    "You are heard, not read: answer in two to five short sentences of plain text, without lists, headings or symbols. "
    "Say what you know, and say so where you do not know."
)
_ASKS_APPROVAL = (
    "Where something should be done that needs the subscriber's consent, call the function propose_approval, once."
)


def turns(
    executive: Executive,
    history: Sequence[Exchange],
    message: str,
    context: JsonValue = None,
    *,
    proposes: bool = False,
) -> list[Turn]:
    """Return all that a model is told, in order."""
    manner = f"{_MANNER} {_ASKS_APPROVAL}" if proposes else _MANNER
    who = f"You are {executive.name}, {executive.role} of the Shadow Board."
    return [
        Turn("system", f"{who} {executive.persona} {manner}"),
        *_said(history),
        Turn("user", message if context is None else f"{message}\n\nContext: {_written(context)}"),
    ]


def _written(context: JsonValue) -> str:
    return context if isinstance(context, str) else json.dumps(context, ensure_ascii=False, separators=(",", ":"))


def _said(history: Sequence[Exchange]) -> Iterator[Turn]:
    for exchange in _newest(history):
        yield Turn("user", exchange.question)
        yield Turn("assistant", exchange.answer)


def _newest(history: Sequence[Exchange]) -> Iterable[Exchange]:
    left, first = HISTORY_CHARACTERS, len(history)
    while first > 0 and (left := left - len(history[first - 1].question) - len(history[first - 1].answer)) >= 0:
        first -= 1
    return history[first:]
