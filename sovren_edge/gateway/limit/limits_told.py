"""Owns how a subscriber's hourly limit is told in header fields, and nothing of how it is kept.

Sources: draft-ietf-httpapi-ratelimit-headers (RateLimit-Policy and RateLimit; here alone, should it change), and the
X-RateLimit fields that older clients read. All times in them are whole seconds from now, rounded up: who waits so long
never comes before the next place is free. X-RateLimit-Reset is no date and says the same as `t`: when `remaining`
next grows. All of it at once comes back only to those who wait for an hour, which no field of these can say.

Must not know requests, answers or clocks.
"""

from sovren_edge.gateway.limit.limiter import Quota

NAME = "subscriber-hour"
WINDOW_S = 3600
SECOND_US = 1_000_000


def own_limit_fields(quota: Quota, now_us: int) -> list[tuple[str, str]]:
    """Return what stands on every answer of the gateway's own."""
    return [
        ("RateLimit-Policy", f'"{NAME}";q={quota.limit};w={WINDOW_S}'),
        ("RateLimit", f'"{NAME}";r={quota.remaining};t={_reset_s(quota, now_us)}'),
        *_counted("X-RateLimit", quota, now_us),
    ]


def forwarded_limit_fields(quota: Quota, now_us: int) -> list[tuple[str, str]]:
    """Return what stands on a forwarded answer, beside the upstream's own limit fields."""
    return _counted("X-Gateway-RateLimit", quota, now_us)


def retry_after_s(quota: Quota, now_us: int) -> int:
    """Return the Retry-After of a refusal, in seconds: never before a place is free, and never at once."""
    # A refusal may be told from a note that is a little older than the place which has become free since.
    return max(_reset_s(quota, now_us), 1)


def _counted(prefix: str, quota: Quota, now_us: int) -> list[tuple[str, str]]:
    numbers = {"Limit": quota.limit, "Remaining": quota.remaining, "Reset": _reset_s(quota, now_us)}
    return [(f"{prefix}-{name}", str(number)) for name, number in numbers.items()]


def _reset_s(quota: Quota, now_us: int) -> int:
    return max(-((now_us - quota.next_slot_at_us) // SECOND_US), 0)
