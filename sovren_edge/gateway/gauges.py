"""Owns which state of the gateway's parts Prometheus sees; it is read when that asks, and no request pays for it.

Must not know when any of it changes.
"""

from collections.abc import Callable

from sovren_edge.gateway.counts import Counts
from sovren_edge.gateway.credentials.credentials import Credentials
from sovren_edge.gateway.ledger.adoption import Adoption
from sovren_edge.gateway.ledger.idempotency import Idempotency
from sovren_edge.gateway.ledger.journal import Journal
from sovren_edge.gateway.ledger.ledger import Ledger
from sovren_edge.gateway.ledger.owners import Owners
from sovren_edge.gateway.limit.limiter import Limiter
from sovren_edge.gateway.limit.shared_grants import SharedGrants
from sovren_edge.gateway.money.budgets import Budgets
from sovren_edge.gateway.proxy.refusals import CROWD, LIMIT
from sovren_edge.observe.registry import Metrics


def show_limiter(metrics: Metrics, limiter: Limiter) -> None:
    """Show the limiter of this process."""
    _show(
        metrics, "gateway_limiter_seeded", "1 once the last hour is known, and grants are made.", lambda: limiter.seeded
    )
    _show(metrics, "gateway_subscribers_remembered", "Subscribers with a grant in the last hour.", lambda: len(limiter))


def show_shared_limiter(metrics: Metrics, grants: SharedGrants) -> None:
    """Show the limiter in Redis, as this process sees it."""
    _show(metrics, "gateway_limiter_seeded", "1 while Redis answers and knows the last hour.", lambda: grants.seeded)
    metrics.counted("gateway_clock_steps", "How often Redis's clock was set forward.", lambda: {(): grants.clock_steps})


def look_at(limiter: Limiter | SharedGrants, ledger: Ledger, journal: Journal, counts: Counts) -> dict[str, object]:
    """Tell how a gateway is doing, as JSON knows it; what Redis alone knows is null."""
    own = limiter if isinstance(limiter, Limiter) else None
    return {
        "limiter": {
            "seeded": limiter.seeded,
            "subscribers": None if own is None else len(own),
            "entries": None if own is None else own.entries,
            "inflight": limiter.inflight,
            "refused": counts.refused({LIMIT, CROWD}),
        },
        "ledger": {"journaling": ledger.journaling, "journal_bytes": journal.used_bytes},
        "requests": {"allowed": counts.allowed, "refused": counts.refused()},
    }


def show_ledger(metrics: Metrics, *, ledger: Ledger, journal: Journal, adoption: Adoption, owners: Owners) -> None:
    """Show whether rows are durable, and where."""
    _show(metrics, "gateway_database_reached", "1 while PostgreSQL answers.", lambda: owners.reached)
    _show(metrics, "gateway_owner_absent", "1 while others may take this process for gone.", lambda: owners.absent)
    _show(metrics, "gateway_rows_waiting", "Rows that wait to be written.", lambda: ledger.waiting)
    _show(metrics, "gateway_journaling", "1 while rows are written to the journal.", lambda: ledger.journaling)
    _show(metrics, "gateway_journal_used_bytes", "What stands in the journal.", lambda: journal.used_bytes)
    _show(metrics, "gateway_journal_free_bytes", "What is left of its space.", lambda: journal.free_bytes)
    _show(metrics, "gateway_journal_closed", "1 while it is full, or has failed.", lambda: journal.closed)
    _show(metrics, "gateway_journals_adopted", "1 while none of others is left.", lambda: adoption.complete)


def show_money_and_keys(
    metrics: Metrics, *, budgets: Budgets, credentials: Credentials, idempotency: Idempotency
) -> None:
    """Show what else is alerted on."""
    metrics.counted(
        "gateway_budget_alerts",
        "Budgets of which so many percent were spent.",
        lambda: {(str(threshold),): count for threshold, count in budgets.told.items()},
        ("threshold",),
    )
    metrics.counted(
        "gateway_refresh_failures",
        "Tokens that an authorization server did not refresh.",
        lambda: {(): credentials.refresh_failures},
    )
    _show(
        metrics,
        "gateway_keys_waiting",
        "Ends under idempotency keys that wait to be kept.",
        lambda: idempotency.waiting,
    )


def _show(metrics: Metrics, name: str, help_text: str, read: Callable[[], float]) -> None:
    metrics.gauge(name, help_text).set_function(read)
