"""Owns the public keys that somebody publishes (RFC 7517): found over the network, kept, and looked up again in time.

Must not know tokens.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

import aiohttp
import jwt
import orjson
from structlog.typing import FilteringBoundLogger

from sovren_edge.auth.tokens import Key
from sovren_edge.errors import EdgeError

# Nobody is asked more often, whatever tokens name; after the second time, keys are looked up again when one is needed.
PAUSE_S, STALE_S = 60.0, 3600.0
# So long they are believed while they cannot be looked up.
KEPT_S = 24 * 3600.0
TIMEOUT_S = 5.0
DOCUMENT_LIMIT = 1 << 20


class Jwks:
    """The keys at a URL; `now` is a monotonic clock in seconds."""

    def __init__(
        self, url: str, http: aiohttp.ClientSession, now: Callable[[], float], log: FilteringBoundLogger
    ) -> None:
        self._url = url
        self._http = http
        self._now = now
        self._log = log
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._only: jwt.PyJWK | None = None
        self._loaded_at = self._asked_at = -KEPT_S
        self._lock = asyncio.Lock()

    async def find(self, kid: str | None) -> Key | None:
        """See tokens.Keys; 503 while keys were never had, or not for a day."""
        if self._is_due(kid):
            async with self._lock:
                # Whoever waited for the lock finds what was brought meanwhile.
                if self._is_due(kid):
                    await self._refresh()
        if not self._believed:
            raise EdgeError(503, "token_keys_unavailable", "The keys of tokens cannot be read now.", retry_after_s=60)
        return self._get(kid)

    def at_hand(self, kid: str | None) -> Key | None:
        """See tokens.Keys."""
        return self._get(kid) if self._believed else None

    @property
    def _believed(self) -> bool:
        return self._now() - self._loaded_at < KEPT_S

    def _get(self, kid: str | None) -> jwt.PyJWK | None:
        return self._only if kid is None else self._keys.get(kid)

    def _is_due(self, kid: str | None) -> bool:
        now = self._now()
        wanted = self._get(kid) is None or now - self._loaded_at >= STALE_S
        return wanted and now - self._asked_at >= PAUSE_S

    async def _refresh(self) -> None:
        now = self._now()
        try:
            keys = await self._fetch()
        except (OSError, TimeoutError, aiohttp.ClientError, ValueError, jwt.PyJWTError) as error:
            self._log.warning("token_keys_unavailable", why=type(error).__name__)
            return
        finally:
            # Only now: until then everybody who needs a key waits for this answer.
            self._asked_at = now
        self._keys = {key.key_id: key for key in keys if key.key_id is not None}
        self._only = keys[0] if len(keys) == 1 else None
        self._loaded_at = now

    async def _fetch(self) -> list[jwt.PyJWK]:
        # Not aiohttp's own time for all of it, which may take a cancellation that comes with it for its own.
        get = self._http.get(self._url, timeout=aiohttp.ClientTimeout(total=None), allow_redirects=False)
        async with asyncio.timeout(TIMEOUT_S), get as answer:
            if answer.status != 200:  # noqa: PLR2004 - anything else has no keys
                raise ValueError
            body = bytearray()
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > DOCUMENT_LIMIT:
                    raise ValueError
        document = orjson.loads(body)
        entries = document.get("keys") if isinstance(document, dict) else None
        return list(_signing_keys(entries if isinstance(entries, list) else []))


def _signing_keys(entries: list[object]) -> list[jwt.PyJWK]:
    """Return the public keys that sign; what is no such key is passed over."""
    keys = []
    for entry in entries:
        if isinstance(entry, dict) and entry.get("kty") in {"RSA", "EC"} and entry.get("use", "sig") == "sig":
            with suppress(jwt.PyJWTError, ValueError, TypeError):
                keys.append(jwt.PyJWK(entry))
    if not keys:
        raise ValueError("no key that signs")
    return keys
