"""Owns the words in which a choice is explained to those who may ask. Must not know who asks, nor how it is written."""

from pools.admission import Lease


def explain(lease: Lease, tries: int) -> dict[str, object]:
    """Return who answers and why, by name; times are in milliseconds."""
    reasons: dict[str, object] = {"pool": lease.pool.name, "endpoint": lease.endpoint.name, "attempts": tries}
    if lease.estimate_s:
        reasons["estimate-ms"] = round(lease.estimate_s * 1000, 1)
        reasons["why"] = f"least work: {lease.before_s * 1000:.1f} ms before it"
    else:
        reasons["why"] = "fewest open requests"
    return reasons
