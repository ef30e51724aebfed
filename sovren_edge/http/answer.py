"""Owns the bytes of the answers that the edge makes itself.

Must not know why an answer is given.
"""

from dataclasses import dataclass
from http import HTTPStatus

from sovren_edge.errors import Problem

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: status, header fields beside framing, body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def json_answer(body: bytes, status: int = 200) -> Answer:
    """Make an answer of ready JSON that nobody may keep."""
    return Answer(status, (("Content-Type", "application/json"), ("Cache-Control", "no-store")), body)


def problem_answer(problem: Problem, request_id: str = "") -> Answer:
    """Make the one form that every error of the edge has."""
    return Answer(problem.status, problem.headers, problem.body(request_id))


def encode(answer: Answer, *, request_id: str = "", close: bool = False, bodiless: bool = False) -> bytes:
    """Write an answer; `bodiless` (for HEAD) leaves the body out but not its length."""
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines.extend(f"{name}: {value}" for name, value in answer.headers)
    lines.append(f"Content-Length: {len(answer.body)}")
    if request_id:
        lines.append(f"X-Request-Id: {request_id}")
    if close:
        lines.append("Connection: close")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head if bodiless else head + answer.body
