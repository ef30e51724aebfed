"""Owns when a request is sent again: only if its caller asked for it, and as upstream asks in Retry-After.

Must not know clocks: how long it has lasted and the present are handed in.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# What may be different a moment later; any other answer is one.
AGAIN = frozenset({429, 502, 503, 504})
FIRST_PAUSE_S = 0.25
# No attempt is begun later than this after the request came.
LATEST_S = 30.0


def pause_before(tries: int, retry_after: Sequence[str], elapsed_s: float, now: datetime) -> float | None:
    """Return how long to wait before the next attempt, after so many tries; None if it would begin too late."""
    own_s = FIRST_PAUSE_S * 2 ** (tries - 1)
    pause_s = max(own_s, asked_s(retry_after, now))
    return pause_s if elapsed_s + pause_s < LATEST_S else None


def asked_s(retry_after: Sequence[str], now: datetime) -> float:
    """Return what Retry-After asks for, in seconds; nothing if it is missing, or no number and no date."""
    text = retry_after[0].strip() if retry_after else ""
    if text.isascii() and text.isdigit():
        # More digits than any pause has.
        return float(text[:10])
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    # A date that does not say its zone is in UTC, as all dates of HTTP are.
    at = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return max((at - now).total_seconds(), 0.0)
