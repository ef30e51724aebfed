"""Whom requests name by their tokens on ports that need none."""

from typing import TYPE_CHECKING

import jwt
import pytest

from sovren_edge.auth.callers import FIELDS, NOBODY_S, Callers
from sovren_edge.auth.tokens import TOKEN_LIMIT, AuthSettings, Key, Verifier
from sovren_edge.errors import EdgeError

if TYPE_CHECKING:
    from collections.abc import Coroutine

SECRET = "a secret of more than thirty-two bytes"
NOON = 1_800_000_000.0
TTL_S = 600


class Port:
    """A port that knows its callers by a key that is at hand, or has to be looked up; time is its own."""

    def __init__(self, *, known: bool = True, published: bool = True) -> None:
        self.now = NOON
        self.known = known
        self.published = published
        self.verified = self.looked_up = 0
        self.tasks: list[Coroutine[object, object, None]] = []
        clock = lambda: self.now  # noqa: E731 - one clock for both
        self.callers = Callers(Verifier(AuthSettings(), self, clock), clock, self.tasks.append)

    async def find(self, kid: str | None) -> Key | None:
        """See tokens.Keys."""
        self.looked_up += 1
        if not self.published:
            raise EdgeError(503, "token_keys_unavailable", "The keys of tokens cannot be read now.")
        self.known = True
        return self.at_hand(kid)

    def at_hand(self, kid: str | None) -> Key | None:  # noqa: ARG002 - Keys' signature
        """See tokens.Keys."""
        self.verified += 1
        return SECRET if self.known else None

    def name(self, authorization: bytes) -> str:
        """Return whom a field names."""
        return self.callers.name(authorization)


def bearer(subject: str = "founder", key: str = SECRET, **more: object) -> bytes:
    """Return an Authorization field."""
    claims = {"sub": subject, "exp": int(NOON) + TTL_S, **more}
    return b"Bearer " + jwt.encode(claims, key, "HS256").encode()


def test_a_token_is_verified_once() -> None:
    """Until it expires; then it names nobody."""
    port, field = Port(), bearer()
    for port.now in (NOON, NOON + 1, NOON + TTL_S - 1):
        assert port.name(field) == "founder"
    assert port.verified == 1
    port.now = NOON + TTL_S
    assert port.name(field) == ""


@pytest.mark.parametrize(
    "authorization",
    [
        bearer(key="another secret of more than thirty-two bytes"),
        bearer(exp=int(NOON)),
        bearer(nbf=int(NOON) + NOBODY_S / 2),
        bearer()[7:],
        bearer() + b", " + bearer(),
        b"Basic Zm91bmRlcjo=",
        b"Bearer sk-an-engines-own",
        b"Bearer \xff\x00",
        b"",
    ],
)
def test_other_fields_name_nobody(authorization: bytes) -> None:
    """And are not looked at again for a minute, however often they come."""
    port = Port()
    assert port.name(authorization) == ""
    before = port.verified
    port.now += NOBODY_S - 1
    assert port.name(authorization) == ""
    assert port.verified == before


def test_a_token_that_becomes_valid_names_somebody_in_time() -> None:
    """A minute later, at most."""
    port, field = Port(), bearer(nbf=int(NOON) + 10)
    assert port.name(field) == ""
    port.now += NOBODY_S
    assert port.name(field) == "founder"


def test_what_is_remembered_is_bounded() -> None:
    """The oldest is verified again; what is too long for a token is not even read."""
    port = Port()
    fields = [bearer(f"caller {number}") for number in range(FIELDS + 1)]
    for field in fields:
        port.name(field)
    assert port.name(fields[-1]) == f"caller {FIELDS}"
    assert port.verified == FIELDS + 1
    assert port.name(fields[0]) == "caller 0"
    assert port.verified == FIELDS + 2
    assert port.name(bearer("x" * TOKEN_LIMIT)) == ""
    assert port.verified == FIELDS + 2


async def test_a_key_that_is_not_at_hand_is_looked_up_beside() -> None:
    """Once at a time; nobody waits for it, and the next request is named."""
    port, field = Port(known=False), bearer()
    assert [port.name(field) for _ in range(3)] == ["", "", ""]
    (looking,) = port.tasks
    await looking
    assert port.name(field) == "founder"
    assert port.looked_up == 1


async def test_keys_that_cannot_be_had_name_nobody() -> None:
    """And are looked up again when they are needed; how often is the keys' affair."""
    port = Port(known=False, published=False)
    for count in (1, 2):
        assert port.name(bearer()) == ""
        await port.tasks[-1]
        assert port.looked_up == len(port.tasks) == count
