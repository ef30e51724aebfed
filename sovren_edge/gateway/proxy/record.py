"""Owns what is known of one request while it lasts, and the rows that are written of it.

Must not know how rows are written, nor what decides: decisions, times and attempts are handed in.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from sovren_edge.gateway.egress.dial import Attempt
from sovren_edge.gateway.ledger.rows import Decision, RequestRow


@dataclass(slots=True)
class Record:
    """One request's row as it stands now; `open_grant` is the id of a grant that is neither settled nor refunded."""

    row: RequestRow
    open_grant: str | None = None
    # Whether a row was handed to the ledger: it may be there whatever became of the writing.
    reserved: bool = False

    @property
    def request_id(self) -> str:
        """Its id as text."""
        return str(self.row.request_id)

    def next_grant(self) -> str:
        """Return the id of the next attempt's grant."""
        return f"{self.row.request_id}.{self.row.attempts}"

    def granted(self, grant: str, at_us: int) -> None:
        """Note a grant: it stays charged unless it is refunded."""
        self.open_grant = grant
        self.row = replace(
            self.row, attempts=self.row.attempts + 1, granted_us=(*self.row.granted_us, at_us), grant_charged=True
        )

    def refunded(self) -> None:
        """Note that the last grant was given back: nothing was sent for it."""
        granted = (*self.row.granted_us[:-1], None)
        self.row = replace(self.row, granted_us=granted, grant_charged=any(one is not None for one in granted))

    def tried(self, attempt: Attempt, upstream_status: int | None) -> None:
        """Note how the last attempt went."""
        self.row = replace(
            self.row,
            resolved_ip=attempt.address,
            upstream_status=upstream_status,
            dns_ms=attempt.dns_ms,
            connect_ms=attempt.connect_ms,
            ttfb_ms=attempt.ttfb_ms,
        )

    def ended(self, decision: Decision, status: int, reason: str, *, bytes_out: int, now: datetime) -> RequestRow:
        """Return its last row: what the caller was answered, and why if it was not upstream's answer."""
        total_ms = round((now - self.row.created_at).total_seconds() * 1000)
        self.row = replace(
            self.row,
            decision=decision,
            settled_at=now,
            status=status,
            reason=reason,
            total_ms=max(total_ms, 0),
            bytes_out=bytes_out,
        )
        return self.row
