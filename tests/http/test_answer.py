"""The bytes of the edge's own answers."""

import orjson
import pytest

from sovren_edge.errors import Problem
from sovren_edge.http.answer import CONTINUE, Answer, encode, json_answer, problem_answer
from sovren_edge.http.response import parse_response
from tests.http.oracle import hear_response


def test_an_answer_is_written_whole() -> None:
    """Status line, fields, length, body."""
    answer = json_answer(b'{"status":"ok"}')
    assert encode(answer) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nContent-Length: 15\r\n\r\n"
        b'{"status":"ok"}'
    )


def test_the_answer_to_head_has_a_length_and_no_body() -> None:
    """The length is that of the answer to GET."""
    assert encode(Answer(200, (), b"hello"), bodiless=True) == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


def test_an_answer_names_its_request_and_may_close() -> None:
    """Both only where it is so."""
    assert encode(Answer(404, (("A", "b"),), b""), request_id="id-1", close=True) == (
        b"HTTP/1.1 404 Not Found\r\nA: b\r\nContent-Length: 0\r\nX-Request-Id: id-1\r\nConnection: close\r\n\r\n"
    )


@pytest.mark.parametrize("status", [400, 408, 417, 431, 499 + 1, 501, 502, 503, 505])
def test_a_problem_is_json_that_old_and_new_clients_read(status: int) -> None:
    """Strings where the portal shows strings, beside the members of RFC 9457."""
    problem = Problem(status, "some_reason", "Some detail.", retry_after_s=3)
    heard = hear_response(encode(problem_answer(problem, "id-1"), request_id="id-1"))
    assert heard.complete
    fields = dict(heard.fields)
    assert fields[b"Content-Type"] == b"application/problem+json"
    assert fields[b"Retry-After"] == b"3"
    assert fields[b"X-Request-Id"] == b"id-1"
    members = orjson.loads(heard.body)
    assert members["error"] == members["message"] == members["detail"] == "Some detail."
    assert members["statusCode"] == members["status"] == status
    assert members["request_id"] == "id-1"


def test_continue_is_an_interim_response() -> None:
    """The parser agrees, and a response may follow it on the connection."""
    assert parse_response(CONTINUE).interim
    assert hear_response(CONTINUE + encode(Answer(200, (), b"hello"))).body == b"hello"
