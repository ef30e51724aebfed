"""Owns the state of one request on its way through the gateway.

Must not know what is done in which order, nor how.
"""

from dataclasses import dataclass, field
from http import HTTPStatus

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.credentials.credentials import Credential
from sovren_edge.gateway.egress.client import Answer
from sovren_edge.gateway.egress.dial import Attempt
from sovren_edge.gateway.egress.fields import Field, with_credential
from sovren_edge.gateway.ledger.idempotency import Begun
from sovren_edge.gateway.ledger.replays import LONGEST_BODY, Kept
from sovren_edge.gateway.limit.limiter import Granted, Quota
from sovren_edge.gateway.money.budgets import Hold
from sovren_edge.gateway.proxy.order import Order
from sovren_edge.gateway.proxy.record import Record
from sovren_edge.gateway.rules import Rules

CALLER_LEFT = 499


@dataclass(slots=True, kw_only=True)
class Call:
    """One request: what it goes by, what is known of it so far, and how it ended.

    `begun_s` is when it was whole, by the monotonic clock; `status` and `reason` are what the caller was answered, and
    why if that was not upstream's answer.
    """

    begun_s: float = 0.0
    service: str
    subscriber: str
    record: Record
    rules: Rules
    body: bytes = field(default=b"", repr=False)
    credential: Credential | None = None
    renewed: bool = False
    repeats: int = 0
    key: Begun | None = None
    hold: Hold | None = None
    granted: Granted | None = None
    quota: Quota | None = None
    attempt: Attempt | None = None
    answer: Answer | None = None
    # Whether the answer's head has gone to the caller, and what has of its body.
    begun: bool = False
    whole: bool = False
    replayed: bool = False
    bytes_out: int = 0
    kept: bytearray | None = field(default=None, repr=False)
    status: int = CALLER_LEFT
    reason: str = "caller_left"

    @property
    def sent(self) -> bool:
        """Whether a byte of it may have reached upstream."""
        return self.attempt is not None and self.attempt.sent

    def fields(self, order: Order) -> list[Field]:
        """Return the fields to send, with a stored credential or the caller's own."""
        if self.credential is not None:
            return with_credential(order.fields, self.credential.name, self.credential.value)
        if order.authorization is not None:
            return with_credential(order.fields, "Authorization", order.authorization)
        return order.fields

    def keep(self, piece: bytes) -> None:
        """Take some of an answer's body: for the key, as long as it is not too much."""
        self.bytes_out += len(piece)
        if self.kept is not None:
            self.kept += piece
            if len(self.kept) > LONGEST_BODY:
                self.kept = None

    def answered(self, answer: Answer) -> None:
        """Note that upstream's answer is passed on."""
        self.answer, self.begun = answer, True
        self.status, self.reason = answer.status, ""
        self.kept = bytearray() if self.key is not None else None

    def replay(self, kept: Kept) -> None:
        """Note that the caller is answered as before."""
        self.replayed = True
        self.status, self.reason, self.bytes_out = kept.status, "", len(kept.body)

    def failed(self, failure: EdgeError) -> None:
        """Note what the caller is answered instead, or why an answer that had begun did not end."""
        problem = failure.problem
        self.status = self.status if self.begun else problem.status
        self.reason = problem.reason

    @property
    def counted_only(self) -> bool:
        """Whether it is a refusal of which many are one row: of a limit, of ours for the moment, or not waited for."""
        ours = self.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        ours = ours or self.status in {HTTPStatus.TOO_MANY_REQUESTS, CALLER_LEFT}
        return not self.record.reserved and ours
