"""Owns what callers are told where the chat model gives no answer, and which of it says that it should not be asked.

Must not know connections. What a server says of its errors is its operator's business, and told to nobody.
"""

import re
from typing import Final

from sovren_edge.handler import EdgeError, Side

RETRY_S, LONGEST_RETRY_S = 5, 60
_OK, _SERVER_ERROR = 200, 500
_BUSY: Final = frozenset({429, 503})
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
# Neither one that is busy nor one that fails at a question: who asks what it fails at would have nobody else asked.
_UNFIT: Final = frozenset({"chat_unavailable", "chat_timeout"})


def says_unfit(error: EdgeError) -> bool:
    """Whether it says that the model is away or stuck, whatever it is asked."""
    return error.problem.reason in _UNFIT


def unavailable() -> EdgeError:
    """Return the error of a model that cannot be reached, or is known to be away."""
    detail = "The chat model cannot be reached at the moment."
    return EdgeError(503, "chat_unavailable", detail, side=Side.UPSTREAM, retry_after_s=RETRY_S)


def too_slow(timeout_s: float) -> EdgeError:
    """Return the error of a model that was silent for so many seconds."""
    detail = f"The chat model said nothing for {timeout_s:g} s."
    return EdgeError(504, "chat_timeout", detail, side=Side.UPSTREAM, retry_after_s=RETRY_S)


def failed() -> EdgeError:
    """Return the error of a model that fails, or says what nobody understands."""
    detail = "The chat model failed before its answer was whole."
    return EdgeError(502, "chat_failed", detail, side=Side.UPSTREAM, retry_after_s=RETRY_S)


def refusal(status: int, retry_after: str) -> EdgeError | None:
    """Return the error that an answer's status means, None for 200; `retry_after` is that field's value."""
    if status == _OK:
        return None
    if status in _BUSY:
        detail = "The chat model has too much to do at the moment."
        return EdgeError(503, "chat_busy", detail, side=Side.UPSTREAM, retry_after_s=_bounded(retry_after))
    if status >= _SERVER_ERROR:
        return failed()
    # A wrong key or name, or a question of a form that it does not know: asking again helps nobody.
    return EdgeError(502, "chat_refused", "The chat model refuses to be asked like this.", side=Side.EDGE)


def _bounded(retry_after: str) -> int:
    """Return the seconds that a server asks for, within reason."""
    seconds = int(retry_after) if _SECONDS.fullmatch(retry_after) else RETRY_S
    return min(max(seconds, 1), LONGEST_RETRY_S)
