"""Owns whom requests name by their tokens where no token is needed, and nobody waits for a key: on balanced ports.

What a token names is remembered until it expires, so that it is verified once. Must not know what follows from a name.
"""

from collections.abc import Callable, Coroutine
from contextlib import suppress

from sovren_edge.auth.tokens import KEY_UNKNOWN, TOKEN_LIMIT, Verifier
from sovren_edge.errors import EdgeError

# So many fields are remembered, a few megabytes at most; those that name nobody for so long.
FIELDS, NOBODY_S = 1024, 60.0

Spawn = Callable[[Coroutine[object, object, None]], object]


class Callers:
    """Names callers by their Authorization field; `now` tells seconds since 1970, `spawn` runs what looks a key up."""

    def __init__(self, tokens: Verifier, now: Callable[[], float], spawn: Spawn) -> None:
        self._tokens = tokens
        self._now = now
        self._spawn = spawn
        self._looking = False
        # By field: whom it names, and until when.
        self._known: dict[bytes, tuple[str, float]] = {}

    def name(self, authorization: bytes) -> str:
        """Return the subject of a field's token; empty if it is none that is valid, or by no key at hand."""
        known, now = self._known.get(authorization), self._now()
        if known is None or now >= known[1]:
            if len(authorization) > TOKEN_LIMIT:
                return ""
            known = self._verify(authorization.decode("latin-1"), now)
            self._known.pop(authorization, None)
            if len(self._known) >= FIELDS:
                del self._known[next(iter(self._known))]
            self._known[authorization] = known
        return known[0]

    def _verify(self, authorization: str, now: float) -> tuple[str, float]:
        try:
            identity = self._tokens.identify_at_hand([authorization])
        except EdgeError as error:
            if error.problem.reason != KEY_UNKNOWN:
                return "", now + NOBODY_S
            if not self._looking:
                self._looking = True
                self._spawn(self._look_up(authorization))
            return "", now
        return identity.subject, identity.expires_at

    async def _look_up(self, authorization: str) -> None:
        """Have the key at hand the next time, if there is one."""
        with suppress(EdgeError):
            await self._tokens.identify([authorization])
        self._looking = False
