"""Whom a token names, and which tokens name nobody."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sovren_edge.auth import tokens
from sovren_edge.auth.tokens import AuthSettings, Identity, OneKey, Verifier, make_token
from sovren_edge.errors import EdgeError
from sovren_edge.secret import SecretSource

SECRET = "a secret of more than thirty-two bytes"
NOON = 1_800_000_000.0
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    """Return a public key as it stands in a file."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def settings(key: str = SECRET, **more: str) -> AuthSettings:
    """Judge a table [auth]."""
    source = SecretSource({"KEY": key})
    return AuthSettings.model_validate({"key": "env:KEY", **more}, context={"secrets": source})


def verifier(of: AuthSettings, now: float = NOON) -> Verifier:
    """Make what verifies tokens at a point in time."""
    assert of.key is not None
    return Verifier(of, OneKey(of.key.get_secret_value()), lambda: now)


def claims(**more: object) -> dict[str, object]:
    """Return the claims of a good token."""
    return {"sub": "founder", "exp": int(NOON) + 60, **more}


async def reason_of(token: str, of: AuthSettings, now: float = NOON) -> str:
    """Return why a token is refused."""
    with pytest.raises(EdgeError) as caught:
        await verifier(of, now).verify(token)
    assert caught.value.problem.status == 401
    assert ("WWW-Authenticate", "Bearer") in caught.value.problem.headers
    return caught.value.problem.reason


async def test_a_token_that_was_made_here_names_its_subject() -> None:
    """Until it expires, to the second."""
    token = make_token(settings(), subject="founder", scope="operator other", ttl_s=60, now=NOON)
    assert await verifier(settings(), NOON + 59).verify(token) == Identity("founder", frozenset({"operator", "other"}))
    assert await reason_of(token, settings(), NOON + 60) == "token_expired"


def test_who_may_act_for_whom() -> None:
    """Everybody for himself, and an operator for all."""
    assert Identity("one", frozenset()).may_act_for("one")
    assert not Identity("one", frozenset({"operators"})).may_act_for("two")
    assert Identity("one", frozenset({"operator"})).may_act_for("two")


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (claims(exp=None), "token_invalid"),
        (claims(exp="1800000060"), "token_invalid"),
        (claims(exp=True), "token_invalid"),
        (claims(exp=1e999), "token_invalid"),
        ({"sub": "founder"}, "token_invalid"),
        (claims(sub="\ud800"), "token_invalid"),
        (claims(sub="a\0b"), "token_invalid"),
        ({"exp": int(NOON) + 60}, "token_invalid"),
        (claims(sub=5), "token_invalid"),
        (claims(sub=""), "token_invalid"),
        (claims(sub="x" * 257), "token_invalid"),
        (claims(nbf=int(NOON) + 1), "token_not_yet_valid"),
        (claims(exp=int(NOON)), "token_expired"),
    ],
)
async def test_claims_that_name_nobody(made: Mapping[str, object], reason: str) -> None:
    """Each with a reason of its own, signed as it may be."""
    assert await reason_of(_signed(made), settings()) == reason


def _signed(made: Mapping[str, object], key: str = SECRET, algorithm: str = "HS256") -> str:
    """Sign claims that PyJWT would not, too."""
    return jwt.api_jws.encode(json.dumps(made).encode(), key, algorithm)


@pytest.mark.parametrize("scope", [None, 5, ["operator"], {"operator": 1}])
async def test_a_scope_that_is_no_text_permits_nothing(scope: object) -> None:
    """Nobody becomes an operator by a form that we do not read."""
    assert (await verifier(settings()).verify(_signed(claims(scope=scope)))).scopes == frozenset()


async def test_the_algorithm_is_ours_and_not_the_tokens() -> None:
    """Neither none, nor a public key taken for a secret."""
    public = pem(RSA_KEY)
    of_rsa = settings(public, algorithm="RS256")
    body = base64.urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b"=").decode()
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode() + f".{body}."
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
    signed = header + b"." + body.encode()
    mac = base64.urlsafe_b64encode(hmac.new(public.encode(), signed, hashlib.sha256).digest()).rstrip(b"=")
    for token in (unsigned, (signed + b"." + mac).decode(), _signed(claims())):
        assert await reason_of(token, of_rsa) == "token_invalid"
    assert await reason_of(unsigned, settings()) == "token_invalid"
    assert await reason_of(_signed(claims(), SECRET + "!"), settings()) == "token_invalid"


@pytest.mark.parametrize(("algorithm", "key"), [("RS256", RSA_KEY), ("ES256", EC_KEY)])
async def test_public_keys_verify(algorithm: str, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
    """Whoever has the private one makes tokens, and we do not."""
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    of = settings(pem(key), algorithm=algorithm)
    assert (await verifier(of).verify(_signed(claims(), private, algorithm))).subject == "founder"
    with pytest.raises(ValueError, match="private key"):
        make_token(of, subject="founder", scope="", ttl_s=60, now=NOON)


async def test_issuer_and_audience_must_agree_where_they_are_set() -> None:
    """A token for somebody else is none for us."""
    of = settings(issuer="us", audience="edge")
    token = make_token(of, subject="founder", scope="", ttl_s=60, now=NOON)
    assert (await verifier(of).verify(token)).subject == "founder"
    for other in (claims(), claims(iss="us"), claims(iss="they", aud="edge"), claims(iss="us", aud=["other"])):
        assert await reason_of(_signed(other), of) == "token_invalid"
    assert (await verifier(settings()).verify(_signed(claims(aud="anybody")))).subject == "founder"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([], "token_missing"),
        (["Basic Zm91bmRlcjp4"], "token_malformed"),
        (["Bearer"], "token_malformed"),
        (["Bearer "], "token_malformed"),
        (["Bearer a.b.c", "Bearer a.b.c"], "token_malformed"),
        (["Bearer a.b.c"], "token_malformed"),
        (["Bearer " + "x" * 10_000], "token_malformed"),
    ],
)
async def test_fields_that_hold_no_token(fields: Sequence[str], reason: str) -> None:
    """A 401, whatever they hold."""
    with pytest.raises(EdgeError) as caught:
        await verifier(settings()).identify(fields)
    assert caught.value.problem.reason == reason


async def test_the_scheme_is_read_in_any_case() -> None:
    """As RFC 9110 has it."""
    token = make_token(settings(), subject="founder", scope="", ttl_s=60, now=NOON)
    assert (await verifier(settings()).identify([f"bEARER {token}"])).subject == "founder"


@given(token=st.text(max_size=200))
async def test_nothing_but_a_token_is_one(token: str) -> None:
    """No input is anything but a 401."""
    await reason_of(token, settings())


@pytest.mark.parametrize(
    ("key", "more", "told"),
    [
        ("short", {}, "at least 32 bytes"),
        (SECRET, {"algorithm": "RS256"}, "no public key for RS256"),
        (pem(EC_KEY), {"algorithm": "RS256"}, "no public key for RS256"),
        (SECRET, {"jwks_url": "https://id.example/keys"}, "without a key"),
    ],
)
def test_settings_that_do_not_agree(key: str, more: dict[str, str], told: str) -> None:
    """They are told without the secret."""
    with pytest.raises(ValidationError, match=told) as caught:
        settings(key, **more)
    assert SECRET not in str(caught.value)


def test_published_keys_are_read_safely() -> None:
    """Over https, but for this machine."""
    for url in ("https://id.example/keys", "http://127.0.0.1:8080/keys"):
        assert AuthSettings(algorithm="ES256", jwks_url=url).jwks_url is not None  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="over https"):
        AuthSettings(algorithm="ES256", jwks_url="http://id.example/keys")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="RS256 or ES256"):
        AuthSettings(jwks_url="https://id.example/keys")  # type: ignore[arg-type]


async def test_a_token_is_verified_once_and_never_outlives_itself_or_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remembered are so many; a key that was exchanged is no longer believed, whatever it signed."""
    decoded: list[object] = []
    decode = jwt.decode
    monkeypatch.setattr(jwt, "decode", lambda *given, **more: decoded.append(given[0]) or decode(*given, **more))
    monkeypatch.setattr(tokens, "REMEMBERED", 2)
    now = [NOON]
    key = [SECRET]

    class Keys:
        async def find(self, kid: str | None) -> str | None:
            del kid
            return key[0]

        def at_hand(self, kid: str | None) -> str | None:
            del kid
            return key[0]

    known = Verifier(settings(), Keys(), lambda: now[0])
    first, second, third = (
        make_token(settings(), subject=name, scope="", ttl_s=60, now=NOON) for name in ("ann", "bob", "cid")
    )
    for _ in range(3):
        assert (await known.verify(first)).subject == "ann"
        assert known.identify_at_hand([f"Bearer {first}"]).subject == "ann"
    assert decoded == [first]
    for token in (second, third, first):
        await known.verify(token)
    assert decoded == [first, second, third, first]
    now[0] += 60
    with pytest.raises(EdgeError, match="expired"):
        await known.verify(first)
    now[0] = NOON
    assert (await known.verify(third)).subject == "cid"
    key[0] = SECRET.upper()
    with pytest.raises(EdgeError, match="signature"):
        await known.verify(third)
