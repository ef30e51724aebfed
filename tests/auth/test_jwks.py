"""Published keys: found, kept through an outage, and asked for no more often than they may be."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import jwt
import pytest
import structlog
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from sovren_edge.auth.jwks import DOCUMENT_LIMIT, KEPT_S, PAUSE_S, STALE_S, Jwks
from sovren_edge.auth.tokens import AuthSettings, Verifier
from sovren_edge.errors import EdgeError

ONE, TWO = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
NOON = 1_800_000_000.0


def described(key: ec.EllipticCurvePrivateKey, kid: str, **more: str) -> dict[str, object]:
    """Describe a public key as it is published."""
    made: dict[str, object] = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    return {**made, "kid": kid, "use": "sig", **more}


@dataclass
class Publisher:
    """Somebody who publishes keys, and what time it is."""

    url: str = ""
    answer: bytes = b""
    status: int = 200
    asked: int = 0
    now: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    keys: Jwks | None = None

    def publish(self, *keys: dict[str, object]) -> None:
        """Publish other keys."""
        self.answer = json.dumps({"keys": keys}).encode()

    async def give(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's signature
        """Answer."""
        self.asked += 1
        return web.Response(body=self.answer, status=self.status, headers=self.headers)

    async def subject(self, key: ec.EllipticCurvePrivateKey, kid: str | None) -> str:
        """Return whom a token names that was signed by a key."""
        assert self.keys is not None
        verifier = Verifier(AuthSettings(algorithm="ES256"), self.keys, lambda: NOON)
        headers = {} if kid is None else {"kid": kid}
        token = jwt.encode({"sub": "founder", "exp": int(NOON) + 60}, key, "ES256", headers=headers)
        return (await verifier.verify(token)).subject

    async def refusal(self, key: ec.EllipticCurvePrivateKey, kid: str | None) -> tuple[int, str]:
        """Return how such a token is refused."""
        with pytest.raises(EdgeError) as caught:
            await self.subject(key, kid)
        return caught.value.problem.status, caught.value.problem.reason


@pytest.fixture
async def publisher() -> AsyncIterator[Publisher]:
    """Publish one key on this machine."""
    made = Publisher()
    made.publish(described(ONE, "one"))
    app = web.Application()
    app.router.add_get("/keys", made.give)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    async with aiohttp.ClientSession() as http:
        made.keys = Jwks(made.url, http, lambda: made.now, structlog.get_logger())
        yield made
    await runner.cleanup()


async def test_a_key_is_looked_up_once(publisher: Publisher) -> None:
    """Also for many who ask at the same time."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(publisher.subject(ONE, "one")) for _ in range(10)]
    assert {task.result() for task in tasks} == {"founder"}
    assert publisher.asked == 1


async def test_an_unknown_key_is_looked_up_at_most_once_a_minute(publisher: Publisher) -> None:
    """Whoever makes tokens up costs nobody a request each."""
    await publisher.subject(ONE, "one")
    publisher.publish(described(ONE, "one"), described(TWO, "two"))
    for _ in range(5):
        assert await publisher.refusal(TWO, "two") == (401, "token_key_unknown")
    assert publisher.asked == 1
    publisher.now += PAUSE_S
    assert await publisher.subject(TWO, "two") == "founder"
    assert await publisher.refusal(TWO, "three") == (401, "token_key_unknown")
    assert publisher.asked == 2


async def test_keys_are_kept_for_a_day_through_an_outage(publisher: Publisher) -> None:
    """And looked up again when they are old."""
    await publisher.subject(ONE, "one")
    publisher.status = 503
    publisher.now += STALE_S
    assert await publisher.subject(ONE, "one") == "founder"
    assert publisher.asked == 2
    publisher.now = KEPT_S
    assert await publisher.refusal(ONE, "one") == (503, "token_keys_unavailable")
    publisher.status = 200
    publisher.now += PAUSE_S
    assert await publisher.subject(ONE, "one") == "founder"


async def test_who_does_not_wait_gets_what_was_looked_up(publisher: Publisher) -> None:
    """As long as it is believed."""
    keys = publisher.keys
    assert keys is not None
    assert keys.at_hand("one") is None
    await publisher.subject(ONE, "one")
    assert keys.at_hand("one") is not None
    assert keys.at_hand("two") is None
    publisher.now += KEPT_S
    assert keys.at_hand("one") is None
    assert publisher.asked == 1


async def test_a_key_that_is_no_longer_published_is_forgotten(publisher: Publisher) -> None:
    """Within an hour."""
    await publisher.subject(ONE, "one")
    publisher.publish(described(TWO, "two"))
    publisher.now += STALE_S
    assert await publisher.refusal(ONE, "one") == (401, "token_key_unknown")


async def test_a_token_need_not_name_the_only_key(publisher: Publisher) -> None:
    """With two of them it must."""
    assert await publisher.subject(ONE, None) == "founder"
    publisher.publish(described(ONE, "one"), described(TWO, "two"))
    publisher.now += STALE_S
    assert await publisher.refusal(ONE, None) == (401, "token_key_unknown")


async def test_only_keys_that_sign_count(publisher: Publisher) -> None:
    """Secrets, keys for encryption and what is broken are passed over."""
    publisher.publish(
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {"kty": "EC", "crv": "P-256", "kid": "broken"},
        described(TWO, "other", use="enc"),
        described(ONE, "one"),
    )
    assert await publisher.subject(ONE, "one") == "founder"
    for kid in ("secret", "broken", "other"):
        assert await publisher.refusal(TWO, kid) == (401, "token_key_unknown")


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"keys":[]}', b'{"keys":{}}', b" " * (DOCUMENT_LIMIT + 1)])
async def test_what_holds_no_keys_is_no_answer(publisher: Publisher, answer: bytes) -> None:
    """Nobody is known, and nobody is believed."""
    publisher.answer = answer
    assert await publisher.refusal(ONE, "one") == (503, "token_keys_unavailable")


async def test_nobody_is_followed_elsewhere(publisher: Publisher) -> None:
    """A redirect is no answer."""
    publisher.status, publisher.headers = 302, {"Location": publisher.url}
    assert await publisher.refusal(ONE, "one") == (503, "token_keys_unavailable")
    assert publisher.asked == 1
