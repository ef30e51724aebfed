"""Owns the words of refusals that are the gateway's own, beside those of the policy.

Must not know when one is given.
"""

from sovren_edge.errors import EdgeError, Side
from sovren_edge.gateway.egress.policy import Denial
from sovren_edge.gateway.limit.limiter import Crowded, Exceeded, Granted, NotSeeded
from sovren_edge.gateway.limit.limits_told import retry_after_s

REFUSED_MOST = 300
LIMIT, CROWD, REFUSAL_LIMIT = "hourly_limit", "too_many_in_flight", "refusal_limit"


def denied(denial: Denial) -> EdgeError:
    """Return a denial of the policy as an error."""
    return EdgeError(denial.status, denial.reason, denial.detail, side=Side.CALLER)


def not_granted(decision: Exceeded | Crowded | NotSeeded, now_us: int) -> EdgeError:
    """Return why a request has no grant."""
    if isinstance(decision, NotSeeded):
        detail = "What was used in the last hour is not known yet."
        return EdgeError(503, "limiter_not_seeded", detail, retry_after_s=5)
    if isinstance(decision, Crowded):
        return crowded()
    detail = f"{decision.quota.limit} requests were sent within the last hour."
    pause_s = retry_after_s(decision.quota, now_us)
    return EdgeError(429, LIMIT, detail, side=Side.CALLER, retry_after_s=pause_s)


def crowded() -> EdgeError:
    """Return the error of a subscriber that has as many requests on their way as it may have."""
    return EdgeError(429, CROWD, "Ten requests are in flight already.", side=Side.CALLER, retry_after_s=1)


def refused_too_often(decision: Granted | Exceeded | Crowded | NotSeeded, now_us: int) -> EdgeError | None:
    """Return what is said instead of a refusal's own reason when there were too many within an hour."""
    if not isinstance(decision, Exceeded):
        return None
    detail = f"{REFUSED_MOST} requests were refused within the last hour, and this would have been refused as well."
    return EdgeError(429, REFUSAL_LIMIT, detail, side=Side.CALLER, retry_after_s=retry_after_s(decision.quota, now_us))


def credential_missing(service: str, host: str) -> EdgeError:
    """Return the error of a request to a service that is never called without a credential."""
    detail = f"No credential is stored for {service} at {host}; X-Upstream-Authorization may bring one."
    return EdgeError(424, "credential_missing", detail, side=Side.CALLER)


def body_too_large(most: int) -> EdgeError:
    """Return the error of a body that is not taken."""
    return EdgeError(413, "body_too_large", f"The body is larger than {most} bytes.", side=Side.CALLER)


def busy() -> EdgeError:
    """Return the error of a caller whose body finds no room."""
    return EdgeError(503, "gateway_busy", "Too many bodies are on their way at the moment.", retry_after_s=1)
