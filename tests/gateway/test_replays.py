"""Idempotency keys, what they stand for, and the form of kept answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovren_edge.gateway.egress.policy import Denial
from sovren_edge.gateway.ledger.replays import Kept, decode, encode, fingerprint, read_key

TEXT = st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("key", ["a", "x" * 255, "8e03978e-40d5-43dd-bc93-6894a57f9324", '"quoted"', "with a space"])
def test_a_key_is_what_its_caller_says(key: str) -> None:
    """Without the space around it, as every field."""
    assert read_key([key]) == read_key([f" {key}\t"]) == key


@pytest.mark.parametrize("values", [[""], [" "], ["x" * 256], ["ä"], ["a\x00"], ["a\tb"], ["a", "a"]])
def test_what_is_no_key_is_refused(values: list[str]) -> None:
    """Said twice, it is not clear which one counts."""
    denial = read_key(values)
    assert isinstance(denial, Denial)
    assert (denial.status, denial.reason) == (400, "idempotency_key_malformed")


def test_nobody_has_to_bring_a_key() -> None:
    """Then there is nothing to keep."""
    assert read_key([]) is None


def test_a_fingerprint_tells_requests_apart() -> None:
    """By method, URL and body, wherever one ends and the next begins."""
    requests = [
        ("POST", "https://a.example/x", b"y"), ("PUT", "https://a.example/x", b"y"),
        ("POST", "https://a.example/", b"xy"), ("POST", "https://a.example/x", b""),
        ("POST", "https://a.example/xy", b""), ("POST", "https://a.example", b"/xy"),
    ]  # fmt: skip
    assert len({fingerprint(*request) for request in requests}) == len(requests)
    assert fingerprint(*requests[0]) == fingerprint("POST", "https://a.example/x", b"y")


@given(
    status=st.integers(200, 599),
    reason=TEXT,
    fields=st.lists(st.tuples(TEXT, TEXT), max_size=5),
    body=st.binary(max_size=99),
)
def test_an_answer_is_kept_as_it_was(status: int, reason: str, fields: list[tuple[str, str]], body: bytes) -> None:
    """Every byte, also such as are no text."""
    answer = Kept(status, reason, fields, body)
    assert decode(encode(answer)) == answer
