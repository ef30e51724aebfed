"""Owns tokens: what may be configured about them, whom one names, and the making of one.

A token is a JSON Web Token (RFC 7519); PyJWT reads and signs it. Which algorithm is taken is configured and never read
from the token. Must not know what somebody may do, nor where keys are found over the network.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import jwt
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, model_validator

from sovren_edge.errors import EdgeError, Side
from sovren_edge.secret import Secret

# Shorter secrets can be guessed (RFC 7518 section 3.2).
SECRET_LEAST = 32
TOKEN_LIMIT, SUBJECT_LIMIT = 8192, 256
# Half a character, which no text can be encoded with, and NUL, which PostgreSQL does not store; JSON may have both.
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
# Tokens that need not be verified again; some megabytes at most.
REMEMBERED = 1024
OPERATOR = "operator"
SCHEME = "bearer"
KEY_UNKNOWN = "token_key_unknown"
LOOPBACK = frozenset({"127.0.0.1", "[::1]", "localhost"})


class AuthSettings(BaseModel):
    """How tokens are verified: by one `key` (a secret of HS256, or a public key in PEM), or by those at `jwks_url`."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    algorithm: Literal["HS256", "RS256", "ES256"] = "HS256"
    key: Secret | None = None
    jwks_url: HttpUrl | None = None
    issuer: str | None = Field(default=None, min_length=1)
    audience: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _agrees(self) -> "AuthSettings":
        if self.jwks_url is not None:
            self._check_url(self.jwks_url)
        if self.key is not None:
            _check_key(self.algorithm, self.key)
        return self

    def _check_url(self, url: HttpUrl) -> None:
        if self.key is not None or self.algorithm == "HS256":
            raise ValueError("jwks_url stands for public keys: it goes with RS256 or ES256, and without a key")
        if url.scheme != "https" and url.host not in LOOPBACK:
            raise ValueError("jwks_url is read over https: whoever can change its answer can make tokens")


def _check_key(algorithm: str, key: SecretStr) -> None:
    value = key.get_secret_value()
    if algorithm == "HS256":
        if len(value.encode()) < SECRET_LEAST:
            raise ValueError(f"the key of HS256 has at least {SECRET_LEAST} bytes")
        return
    try:
        jwt.get_algorithm_by_name(algorithm).prepare_key(value)
    except (jwt.PyJWTError, ValueError, TypeError):
        raise ValueError(f"the key is no public key for {algorithm} in PEM") from None


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a token names, the scopes that it carries, and until when (seconds since 1970)."""

    subject: str
    scopes: frozenset[str]
    expires_at: float = field(default=math.inf, compare=False)

    @property
    def is_operator(self) -> bool:
        """Whether it may act for everybody."""
        return OPERATOR in self.scopes

    def may_act_for(self, subscriber: str) -> bool:
        """Whether it may act for this subscriber."""
        return self.is_operator or self.subject == subscriber


Key = jwt.PyJWK | str


class Keys(Protocol):
    """Where the key is by which a token is verified."""

    async def find(self, kid: str | None) -> Key | None:
        """Return the key of this identifier, or the only one; None if there is none; raises EdgeError."""

    def at_hand(self, kid: str | None) -> Key | None:
        """Return the same as far as it is known now; None for what would have to be looked up."""


@dataclass(frozen=True, slots=True)
class OneKey:
    """A key that was configured, whatever a token calls it."""

    key: str

    async def find(self, kid: str | None) -> Key | None:
        """See Keys."""
        return self.at_hand(kid)

    def at_hand(self, kid: str | None) -> Key | None:  # noqa: ARG002 - Keys' signature
        """See Keys."""
        return self.key


class _Verified(NamedTuple):
    key_id: str | None
    key: Key
    identity: Identity


class Verifier:
    """Says whom a token names; `now` tells seconds since 1970.

    A token that was verified is not verified again, as long as it is valid and its key is still the one of that name.
    """

    def __init__(self, settings: AuthSettings, keys: Keys, now: Callable[[], float]) -> None:
        self._settings = settings
        self._keys = keys
        self._now = now
        self._verified: dict[str, _Verified] = {}

    async def identify(self, authorization: Sequence[str]) -> Identity:
        """Return whom the values of a request's Authorization fields name; raises EdgeError (401, or 503)."""
        return await self.verify(_token(authorization))

    def identify_at_hand(self, authorization: Sequence[str]) -> Identity:
        """Return the same without waiting: a key that would have to be looked up is not known (401)."""
        token = _token(authorization)
        key_id = self._key_id(token)
        return self._identity(token, key_id, self._keys.at_hand(key_id))

    async def verify(self, token: str) -> Identity:
        """Return whom a token names; raises EdgeError (401, or 503 where keys cannot be had)."""
        key_id = self._key_id(token)
        return self._identity(token, key_id, await self._keys.find(key_id))

    def _key_id(self, token: str) -> str | None:
        known = self._verified.get(token)
        return _key_id(token) if known is None else known.key_id

    def _identity(self, token: str, key_id: str | None, key: Key | None) -> Identity:
        known = self._verified.get(token)
        if known is not None and known.key is key and self._now() < known.identity.expires_at:
            return known.identity
        self._verified.pop(token, None)
        if key is None:
            raise refused(KEY_UNKNOWN, "The token was signed with a key that is not known.")
        claims = self._claims(token, key)
        self._check_time(claims)
        identity = _identity(claims)
        if len(self._verified) >= REMEMBERED:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = _Verified(key_id, key, identity)
        return identity

    def _claims(self, token: str, key: Key) -> Mapping[str, object]:
        settings = self._settings
        # Time is compared here: PyJWT would ask the machine's clock.
        options: jwt.types.Options = {
            "require": ["exp", "sub"], "verify_exp": False, "verify_nbf": False, "verify_iat": False,
            "verify_aud": settings.audience is not None,
        }  # fmt: skip
        try:
            return jwt.decode(
                token, key, [settings.algorithm], options, audience=settings.audience, issuer=settings.issuer
            )
        except jwt.PyJWTError:
            raise refused("token_invalid", "The token's signature or claims are not valid.") from None

    def _check_time(self, claims: Mapping[str, object]) -> None:
        now = self._now()
        if now >= _seconds(claims["exp"]):
            raise refused("token_expired", "The token has expired.")
        if "nbf" in claims and now < _seconds(claims["nbf"]):
            raise refused("token_not_yet_valid", "The token is not valid yet.")


def _token(authorization: Sequence[str]) -> str:
    if not authorization:
        raise refused("token_missing", "This needs a token: Authorization: Bearer TOKEN.")
    scheme, _, token = authorization[0].partition(" ")
    if len(authorization) > 1 or scheme.lower() != SCHEME or not token:
        raise refused("token_malformed", "The Authorization field is not Bearer and one token.")
    return token.strip(" ")


def _key_id(token: str) -> str | None:
    if len(token) > TOKEN_LIMIT:
        raise refused("token_malformed", "The token is too long.")
    try:
        return jwt.get_unverified_header(token).get("kid")
    except jwt.PyJWTError:
        raise refused("token_malformed", "The token is no JSON Web Token.") from None


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise refused("token_invalid", "The token's times are no numbers.")
    return value


def _identity(claims: Mapping[str, object]) -> Identity:
    subject, scope = claims["sub"], claims.get("scope", "")
    if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_LIMIT or _NO_TEXT.search(subject):
        raise refused("token_invalid", "The token's subject is no name.")
    scopes = frozenset(scope.split()) if isinstance(scope, str) else frozenset()
    return Identity(subject, scopes, _seconds(claims["exp"]))


def refused(reason: str, detail: str) -> EdgeError:
    """Return the error by which a caller learns that it is not known."""
    return EdgeError(401, reason, detail, side=Side.CALLER)


def make_token(settings: AuthSettings, *, subject: str, scope: str, ttl_s: int, now: float) -> str:
    """Return a token that expires after `ttl_s` seconds; ValueError if it cannot be signed here."""
    if settings.algorithm != "HS256" or settings.key is None:
        raise ValueError(f"tokens of {settings.algorithm} are signed by whoever has the private key, not here")
    claims: dict[str, object] = {"sub": subject, "iat": int(now), "exp": int(now) + ttl_s}
    claims |= {"scope": scope} if scope else {}
    claims |= {"iss": settings.issuer} if settings.issuer else {}
    claims |= {"aud": settings.audience} if settings.audience else {}
    return jwt.encode(claims, settings.key.get_secret_value(), "HS256")
