"""OAuth from a client's side: when tokens are refreshed, what is asked, and what is read of an answer."""

import base64
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovren_edge.gateway.credentials.oauth import (
    LONGEST_S,
    SHORTEST_S,
    YOUNG_S,
    OAuthSecret,
    TokenRefusedError,
    read_token,
    token_request,
)

NOW = 1_800_000_000.0
FRESH = OAuthSecret(
    token_url="https://login.example.com/token", client_id="us", client_secret="hush", refresh_token="again",
    access_token="old", obtained_at=NOW, lifetime_s=3600.0,
)  # fmt: skip


def answer(**members: object) -> bytes:
    """Return the body of an answer."""
    return orjson.dumps({"access_token": "new", "token_type": "Bearer"} | members)


@pytest.mark.parametrize(
    ("lifetime_s", "due_s", "expired_s"),
    [(3600.0, 3540.0, 3600.0), (120.0, 60.0, 120.0), (100.0, 50.0, 100.0), (10.0, 5.0, 10.0)],
)
def test_a_token_is_refreshed_a_minute_before_its_end(lifetime_s: float, due_s: float, expired_s: float) -> None:
    """A short one, at half of its life."""
    secret = replace(FRESH, lifetime_s=lifetime_s)
    assert [secret.is_due(NOW + due_s - 1), secret.is_due(NOW + due_s)] == [False, True]
    assert [secret.is_expired(NOW + expired_s - 1), secret.is_expired(NOW + expired_s)] == [False, True]


def test_a_token_without_an_end_is_never_due() -> None:
    """None at all always is."""
    endless = replace(FRESH, lifetime_s=None)
    assert not endless.is_due(NOW + 1e9)
    assert not endless.is_expired(NOW + 1e9)
    none = replace(endless, access_token="")
    assert none.is_due(NOW)
    assert none.is_expired(NOW)


@pytest.mark.parametrize(
    ("used", "age_s", "wanted"),
    [
        (None, 100.0, False),
        (None, 3550.0, True),
        ("Bearer old", YOUNG_S, True),
        ("Bearer old", YOUNG_S - 1, False),
        # The clock was set back: nobody knows how old it is.
        ("Bearer old", -1.0, True),
        ("Bearer older", 100.0, False),
    ],
)
def test_what_upstream_refused_is_refreshed(used: str | None, age_s: float, wanted: object) -> None:
    """If it is still the present one, and not just made: upstream may refuse it for something else."""
    assert FRESH.wants_refresh(used, NOW + age_s) is wanted


def asked(secret: OAuthSecret) -> tuple[dict[str, str], dict[str, str]]:
    """Return the fields of a token's request, and its parameters."""
    fields, body = token_request(secret)
    return dict(fields), {name: value for name, (value,) in parse_qs(body.decode(), strict_parsing=True).items()}


def test_a_client_proves_itself_in_the_field_made_for_it() -> None:
    """Encoded twice, as RFC 6749 has it, so that a colon in its name is none between name and secret."""
    fields, parameters = asked(replace(FRESH, client_id="us:1", client_secret="ä b"))
    assert parameters == {"grant_type": "refresh_token", "refresh_token": "again"}
    kind, _, proof = fields.pop("Authorization").partition(" ")
    assert (kind, base64.b64decode(proof)) == ("Basic", b"us%3A1:%C3%A4+b")
    assert fields == {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({"client_auth": "body"}, {"client_id": "us", "client_secret": "hush"}),
        # A public client has no secret; there is nothing to prove, only to say.
        ({"client_secret": ""}, {"client_id": "us"}),
        ({"client_auth": "body", "client_secret": "", "scope": "a b"}, {"client_id": "us", "scope": "a b"}),
    ],
)
def test_a_client_may_prove_itself_in_the_body(changes: dict[str, Any], parameters: dict[str, str]) -> None:
    """Where its server knows no other way."""
    fields, found = asked(replace(FRESH, **changes))
    assert "Authorization" not in fields
    assert found == {"grant_type": "refresh_token", "refresh_token": "again"} | parameters


def test_without_a_refresh_token_the_client_asks_for_itself() -> None:
    """Section 4.4."""
    _, parameters = asked(replace(FRESH, refresh_token="", scope="read"))
    assert parameters == {"grant_type": "client_credentials", "scope": "read"}


def test_a_token_is_read() -> None:
    """All else stays as it was."""
    secret = read_token(FRESH, 200, answer(expires_in=60, scope="ignored"), NOW + 1)
    assert secret == replace(FRESH, access_token="new", obtained_at=NOW + 1, lifetime_s=60.0)
    assert secret.value == "Bearer new"


@pytest.mark.parametrize("kind", ["bearer", "BEARER", "bot", "user", ""])
def test_kinds_that_are_sent_as_they_are(kind: str) -> None:
    """Whatever case they are written in."""
    assert read_token(FRESH, 200, answer(token_type=kind), NOW).access_token == "new"
    assert read_token(FRESH, 200, b'{"access_token":"!new~"}', NOW).access_token == "!new~"


@pytest.mark.parametrize(
    ("given", "lifetime_s"),
    [
        (60, 60.0), (60.5, 60.5), ("60", 60.0), (0, SHORTEST_S), (-5, SHORTEST_S), (1e300, LONGEST_S),
        ("9" * 400, LONGEST_S), ("inf", LONGEST_S), ("nan", None), ("soon", None), (None, None), (True, None),
        ([], None),
    ],
)  # fmt: skip
def test_a_life_is_believed_within_bounds(given: object, lifetime_s: float | None) -> None:
    """What is no number says nothing."""
    assert read_token(FRESH, 200, answer(expires_in=given), NOW).lifetime_s == lifetime_s


@pytest.mark.parametrize(
    ("before", "given", "after"),
    [("again", "more", "more"), ("again", None, "again"), ("again", "", "again"), ("again", 5, "again"),
     ("", "more", "")],
)  # fmt: skip
def test_a_refresh_token_that_is_replaced(before: str, given: object, after: str) -> None:
    """The new one counts; whoever had none needs none."""
    secret = read_token(replace(FRESH, refresh_token=before), 200, answer(refresh_token=given), NOW)
    assert secret.refresh_token == after


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, b'{"error": "invalid_grant", "error_description": "hush"}', "it answered 400 and invalid_grant"),
        (400, orjson.dumps({"error": "hush"}), "it answered 400"),
        (400, orjson.dumps({"error": ["hush"]}), "it answered 400"),
        (201, answer(), "it answered 201"),
        (500, b"<html>hush", "it answered 500"),
        (200, b"[]", "it answered 200"),
        (200, b"", "it answered 200"),
        (200, answer(access_token=5), "it answered 200"),
        (200, answer(access_token=""), "it answered 200"),
        (200, answer(access_token="hush\r\nX: y"), "it answered 200"),
        (200, answer(access_token="h" * 16385), "it answered 200"),
        (200, answer(token_type="DPoP"), "not known here"),
        (200, answer(token_type=5), "not known here"),
    ],
)  # fmt: skip
def test_what_is_no_token_is_told_without_what_was_said(status: int, body: bytes, said: str) -> None:
    """It could be a secret."""
    with pytest.raises(TokenRefusedError) as caught:
        read_token(FRESH, status, body, NOW)
    assert str(caught.value).endswith(said)
    assert "hush" not in str(caught.value)


def test_secrets_are_not_printed() -> None:
    """In a traceback, say."""
    assert not any(word in repr(FRESH) for word in ("hush", "again", "old"))


ANYTHING = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=5) | st.just([])
ANSWERS = st.dictionaries(
    st.sampled_from(["access_token", "token_type", "expires_in", "refresh_token", "error"]), ANYTHING
).map(orjson.dumps)


@given(body=st.binary(max_size=200) | ANSWERS, status=st.sampled_from([200, 400]))
def test_any_answer_is_a_token_or_refused(body: bytes, status: int) -> None:
    """Nothing else is raised."""
    with suppress(TokenRefusedError):
        assert read_token(FRESH, status, body, NOW).access_token
