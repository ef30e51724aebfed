"""Owns getting a new access token: by one process at a time, and stored before anybody uses it.

Whoever has locked the row asks the authorization server; the others look again until the row has changed. What a server
gave and the database did not take is kept, and stored before the server is asked again: it may have taken the old
refresh token back. Must not know who calls, or what is cached.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from structlog.typing import FilteringBoundLogger

from sovren_edge.errors import EdgeError, Side
from sovren_edge.gateway.credentials.oauth import OAuthSecret, TokenRefusedError, read_token, token_request
from sovren_edge.gateway.credentials.store import CredentialStore, Purpose, Stored
from sovren_edge.gateway.egress.client import Answer, Egress
from sovren_edge.gateway.egress.faults import EgressError
from sovren_edge.gateway.egress.policy import Denial, read_target
from sovren_edge.store.connection import Connection
from sovren_edge.store.database import Database

# An authorization server must answer within the first; nobody waits longer than the second before it is asked.
ANSWER_S, WAIT_S = 10.0, 15.0
POLL_S = 0.1
# So long after it has refused, or not answered, a server is not asked for the same again.
PAUSE_S = 5
# Each holds a connection to the database while its server is asked; servers that hang must not use up all of them.
AT_ONCE = 3
LONGEST_ANSWER = 64 * 1024


def failed(why: str) -> EdgeError:
    """Return the error of a caller whose credential cannot be refreshed."""
    detail = f"The stored credential could not be refreshed: {why}."
    return EdgeError(
        HTTPStatus.BAD_GATEWAY, "credential_refresh_failed", detail, side=Side.UPSTREAM, retry_after_s=PAUSE_S
    )


class Refresher:
    """Refreshes what is stored; `now` tells seconds since 1970, `failed` how often a server gave nothing."""

    def __init__(
        self,
        database: Database,
        store: CredentialStore,
        egress: Callable[[], Egress],
        now: Callable[[], float],
        log: FilteringBoundLogger,
    ) -> None:
        self._database = database
        self._store = store
        self._egress = egress
        self._now = now
        self._log = log
        self._turns = asyncio.Semaphore(AT_ONCE)
        # By purpose: the secret that was refreshed, and what it became; the secret that was not, when and why.
        self._unsaved: dict[Purpose, tuple[OAuthSecret, OAuthSecret]] = {}
        self._failures: dict[Purpose, tuple[OAuthSecret, float, str]] = {}
        self.failed = 0

    async def refresh(self, purpose: Purpose, used: str | None) -> Stored | None:
        """Return what is stored, refreshed if it still wants that; None if nothing is stored any more.

        `used` is a value that upstream has refused. Raises EdgeError: 502 if it cannot be refreshed, 503 if
        it cannot be read or the database is away.
        """
        try:
            async with asyncio.timeout(WAIT_S) as patience:
                return await self._refresh(purpose, used, patience)
        except TimeoutError:
            raise failed("others are at it, and it takes them too long") from None

    async def _refresh(self, purpose: Purpose, used: str | None, patience: asyncio.Timeout) -> Stored | None:
        while (stored := await self._attempt(purpose, used, patience)) is None:
            # Locked by somebody else, or gone.
            stored = await self._store.read(self._database, purpose)
            if stored is None or not self._wants_refresh(stored, used):
                break
            await asyncio.sleep(POLL_S)
        if stored is None:
            self._forget(purpose)
        return stored

    async def _attempt(self, purpose: Purpose, used: str | None, patience: asyncio.Timeout) -> Stored | None:
        async with self._turns, self._database.transaction() as connection:
            stored = await self._store.lock(connection, purpose)
            if stored is None:
                return None
            stored = await self._refreshed(connection, stored, used, patience)
        self._forget(purpose)
        return stored

    def _forget(self, purpose: Purpose) -> None:
        self._unsaved.pop(purpose, None)
        self._failures.pop(purpose, None)

    async def _refreshed(
        self, connection: Connection, stored: Stored, used: str | None, patience: asyncio.Timeout
    ) -> Stored:
        """Return a row that is locked as it is from now on; what is written counts once it is committed."""
        secret = self._store.open(stored)
        before, after = self._unsaved.get(stored.purpose, (None, None))
        if after is None or before != secret:
            if not isinstance(secret, OAuthSecret) or not secret.wants_refresh(used, self._now()):
                return stored
            # From here on nobody's patience counts: what a server gives must not be lost.
            patience.reschedule(None)
            after = await self._ask(stored.purpose, secret)
            self._unsaved[stored.purpose] = (secret, after)
        return await self._store.put(connection, stored.purpose, stored.header, after)

    def _wants_refresh(self, stored: Stored, used: str | None) -> bool:
        secret = self._store.open(stored)
        return isinstance(secret, OAuthSecret) and secret.wants_refresh(used, self._now())

    async def _ask(self, purpose: Purpose, secret: OAuthSecret) -> OAuthSecret:
        """Ask the authorization server, unless it has just failed; raises EdgeError 502."""
        failure = self._failures.get(purpose)
        if failure is not None and failure[0] == secret and 0 <= self._now() - failure[1] < PAUSE_S:
            raise failed(failure[2])
        try:
            async with asyncio.timeout(ANSWER_S):
                status, body = await self._post(secret)
            return read_token(secret, status, body, self._now())
        except (TimeoutError, EgressError, TokenRefusedError) as error:
            why = _reason(error)
        self.failed += 1
        self._failures[purpose] = (secret, self._now(), why)
        self._log.warning("credential_refresh_failed", **purpose._asdict(), why=why)
        raise failed(why)

    async def _post(self, secret: OAuthSecret) -> tuple[int, bytes]:
        target = read_target(secret.token_url)
        if isinstance(target, Denial):
            raise TokenRefusedError(f"its token URL is not one that may be called ({target.reason})")
        fields, body = token_request(secret)
        async with self._egress().send(target, "POST", fields, body) as answer:
            return answer.status, await _whole(answer)


def _reason(error: TimeoutError | EgressError | TokenRefusedError) -> str:
    if isinstance(error, EgressError):
        # Its detail names the server, which is the operator's business.
        return f"the authorization server could not be asked ({error.reason})"
    return "the authorization server did not answer in time" if isinstance(error, TimeoutError) else str(error)


async def _whole(answer: Answer) -> bytes:
    body = bytearray()
    async for piece in answer.body():
        body += piece
        if len(body) > LONGEST_ANSWER:
            raise TokenRefusedError("the authorization server's answer is too long")
    return bytes(body)
