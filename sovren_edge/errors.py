"""Owns the errors that the edge itself answers with, and their one JSON form.

Must not know HTTP messages, listeners or any library that raises: foreign exceptions are mapped where they are caught.
"""

from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

import orjson


class Side(StrEnum):
    """Who is at fault."""

    CALLER = "caller"
    EDGE = "edge"
    UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True)
class Problem:
    """One refusal or failure as its caller sees it (RFC 9457).

    `reason` is stable and for machines, `detail` is a sentence for people. `retry_after_s` (seconds) is set where
    the same request may succeed later.
    """

    status: int
    reason: str
    detail: str
    side: Side = Side.EDGE
    retry_after_s: int | None = None

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Header fields of the answer, beside its length."""
        fields = [("Content-Type", "application/problem+json"), ("Cache-Control", "no-store")]
        if self.status == HTTPStatus.UNAUTHORIZED:
            fields.append(("WWW-Authenticate", "Bearer"))
        if self.retry_after_s is not None:
            fields.append(("Retry-After", str(self.retry_after_s)))
        return tuple(fields)

    def members(self) -> dict[str, object]:
        """Return the RFC 9457 members and `error`, `message`, `statusCode`, which older clients read."""
        return {
            "type": f"urn:sovren-edge:problem:{self.reason}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "reason": self.reason,
            "error": self.detail,
            "message": self.detail,
            "statusCode": self.status,
        }

    def body(self, request_id: str = "") -> bytes:
        """Return the members as JSON, and with them the request's id, if it has one."""
        return orjson.dumps(self.members() | ({"request_id": request_id} if request_id else {}))


class EdgeError(Exception):
    """Raised wherever a request cannot be served; carries the problem that its caller is told."""

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        *,
        side: Side = Side.EDGE,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(status, reason, detail, side, retry_after_s)


class StartupError(Exception):
    """The program cannot start; its message is for the operator and names every fault found."""


def told_together(group: BaseExceptionGroup[StartupError]) -> str:
    """Return the messages of all faults of a group, and of the groups in it, a line each."""
    return "\n".join(
        told_together(error) if isinstance(error, BaseExceptionGroup) else str(error) for error in group.exceptions
    )
