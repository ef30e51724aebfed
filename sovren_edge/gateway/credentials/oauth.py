"""Owns OAuth 2.0 from a client's side: when a token is to be refreshed, what is sent for it, and what an answer says.

RFC 6749: by its refresh token where there is one (section 6), otherwise by the client's own credentials (section 4.4).
Must not know how anything is sent, kept or sealed, nor a clock: times are seconds since 1970, handed in.
"""

import base64
import math
import re
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import quote_plus, urlencode

import orjson

from sovren_edge.gateway.egress.fields import Field

# So long before its end a token is refreshed; one that lives for less than twice this, at half of its life.
MARGIN_S = 60.0
# What upstream refuses although it is younger than this is not refreshed: each refused call would be a refresh.
YOUNG_S = 30.0
# A life that was announced is believed within these bounds.
SHORTEST_S, LONGEST_S = 10.0, 10 * 365 * 86_400.0

# Salesforce has tokens with an exclamation mark, so no narrower set will do.
TOKEN = re.compile(r"[!-~]{1,16384}")
# Slack says whose token it is; all of these are sent as Bearer. Others, such as DPoP, need more than being sent.
TYPES = frozenset({"", "bearer", "bot", "user"})
# Any other code could be anything, also a secret (RFC 6749, section 5.2).
ERRORS = frozenset(
    {
        "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
        "invalid_scope",
    }
)  # fmt: skip

ClientAuth = Literal["basic", "body"]


class TokenRefusedError(Exception):
    """No token was given; its message never holds a secret, nor what an answer said but for a well-known code."""


@dataclass(frozen=True, slots=True)
class OAuthSecret:
    """A client of an authorization server, and the tokens that it has; `lifetime_s` is None if a token has no end.

    `client_auth` says how the client proves itself: by HTTP Basic, which every server must take, or in the body.
    """

    token_url: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    client_auth: ClientAuth = "basic"
    scope: str = ""
    refresh_token: str = field(default="", repr=False)
    access_token: str = field(default="", repr=False)
    obtained_at: float = 0.0
    lifetime_s: float | None = None

    @property
    def value(self) -> str:
        """The value of the Authorization field."""
        return f"Bearer {self.access_token}"

    def is_due(self, now: float) -> bool:
        """Whether the access token is missing or about to expire."""
        lifetime_s = math.inf if self.lifetime_s is None else self.lifetime_s
        return not self.access_token or now >= self.obtained_at + lifetime_s - min(MARGIN_S, lifetime_s / 2)

    def is_expired(self, now: float) -> bool:
        """Whether the access token is of no use any more."""
        lifetime_s = math.inf if self.lifetime_s is None else self.lifetime_s
        return not self.access_token or now >= self.obtained_at + lifetime_s

    def wants_refresh(self, used: str | None, now: float) -> bool:
        """Whether to refresh: it is due, or `used`, a value that upstream has refused, is still the present one."""
        if self.is_due(now):
            return True
        return used == self.value and not 0 <= now - self.obtained_at < YOUNG_S


def token_request(secret: OAuthSecret) -> tuple[list[Field], bytes]:
    """Return the fields and the body of the POST by which a token is asked for."""
    asked = {"grant_type": "refresh_token" if secret.refresh_token else "client_credentials"}
    asked |= {"refresh_token": secret.refresh_token} if secret.refresh_token else {}
    asked |= {"scope": secret.scope} if secret.scope else {}
    fields = [("Accept", "application/json"), ("Content-Type", "application/x-www-form-urlencoded")]
    if secret.client_auth == "basic" and secret.client_secret:
        fields.append(("Authorization", _basic(secret)))
    else:
        asked |= {"client_id": secret.client_id}
        asked |= {"client_secret": secret.client_secret} if secret.client_secret else {}
    return fields, urlencode(asked).encode()


def read_token(secret: OAuthSecret, status: int, body: bytes, now: float) -> OAuthSecret:
    """Return the secret with the tokens that an answer brings; raises TokenRefusedError."""
    answer = _object(body)
    token, kind = answer.get("access_token"), answer.get("token_type", "")
    if status != 200 or not isinstance(token, str) or TOKEN.fullmatch(token) is None:  # noqa: PLR2004 - its section 5.1
        raise TokenRefusedError(_why(status, answer))
    if not isinstance(kind, str) or kind.lower() not in TYPES:
        raise TokenRefusedError("the authorization server gave a token of a kind that is not known here")
    return replace(
        secret,
        access_token=token,
        refresh_token=_rotated(secret.refresh_token, answer.get("refresh_token")),
        obtained_at=now,
        lifetime_s=_lifetime_s(answer.get("expires_in")),
    )


def _basic(secret: OAuthSecret) -> str:
    """Return a client's proof, encoded twice, as section 2.3.1 asks for."""
    pair = f"{quote_plus(secret.client_id)}:{quote_plus(secret.client_secret)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _object(body: bytes) -> dict[str, object]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _why(status: int, answer: dict[str, object]) -> str:
    code = answer.get("error")
    said = f" and {code}" if isinstance(code, str) and code in ERRORS else ""
    return f"the authorization server gave no token: it answered {status}{said}"


def _rotated(before: str, given: object) -> str:
    """Return the refresh token from now on; a client without one needs none, and one given would only expire."""
    return given if before and isinstance(given, str) and given else before


def _lifetime_s(given: object) -> float | None:
    """Return how long a token lives, if its answer says so; some servers write the number as a text."""
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        return None
    try:
        lifetime_s = float(given)
    except ValueError:
        return None
    return None if math.isnan(lifetime_s) else min(max(lifetime_s, SHORTEST_S), LONGEST_S)
