"""Owns what a briefing is made of: all that is known of a subscriber, and how a model is told it.

Must not know how the answer is made.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from handlers.executives.activity import Activities, Activity
from handlers.executives.approvals import Approval, Approvals
from sovren_edge.handler import Edge

_NEWEST = 10
_USAGE_TIMEOUT = aiohttp.ClientTimeout(total=3.0, sock_connect=1.0)
REQUEST = (
    "Brief the subscriber, as at the beginning of a day: what happened lately, how the external services were used, "
    "and what waits for a decision, the most urgent first. Say only what the facts below say."
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known: `usage` is the gateway's account of today, or why there is none."""

    activities: Sequence[Activity]
    approvals: Sequence[Approval]
    usage: Mapping[str, Any] | str

    @property
    def sources(self) -> dict[str, object]:
        """What the briefing rests on, as its caller is told."""
        usage = self.usage if isinstance(self.usage, str) else "available"
        return {"activities": len(self.activities), "approvals": len(self.approvals), "usage": usage}

    def told(self) -> str:
        """Return the request and the facts, as a model is told them."""
        facts = {
            "recent_activity": [
                {"who": one.executive_name, "what": one.action, "when": one.happened_at} for one in self.activities
            ],
            "waiting_for_decision": [
                {
                    "who": one.executive_name, "what": one.action, "value": one.value, "currency": one.currency,
                    "risk": one.risk, "until": one.expires_at,
                }
                for one in self.approvals
            ],
            "external_services_today": self.usage,
        }  # fmt: skip
        return f"{REQUEST}\n\nFacts: {orjson.dumps(facts, default=str).decode()}"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where facts come from; `gateway` is the service that tells usage."""

    edge: Edge
    activities: Activities
    approvals: Approvals
    gateway: str

    async def facts(self, subscriber: str, authorization: str) -> Facts:
        """Gather what is known of a subscriber; raises EdgeError 503 while the database is away."""
        usage = asyncio.ensure_future(self._usage(subscriber, authorization))
        try:
            happened, _ = await self.activities.page(subscriber, limit=_NEWEST, offset=0)
            waiting, _ = await self.approvals.pending(subscriber, self.edge.clock.now(), limit=_NEWEST, offset=0)
            return Facts(happened, waiting, await usage)
        finally:
            usage.cancel()

    async def _usage(self, subscriber: str, authorization: str) -> Mapping[str, Any] | str:
        """Return today's usage, asked for with the caller's own token, or why it is not known."""
        try:
            url = f"{self.edge.url(self.gateway)}/usage/{subscriber}"
            headers = {"Authorization": authorization}
            async with self.edge.http.get(
                url, headers=headers, timeout=_USAGE_TIMEOUT, allow_redirects=False
            ) as answer:
                if answer.status != 200:  # noqa: PLR2004 - the one that means usage
                    return f"unavailable (status {answer.status})"
                whole = orjson.loads(await answer.read())
        except (aiohttp.ClientError, TimeoutError, LookupError, ValueError) as error:
            return f"unavailable ({type(error).__name__})"
        if not isinstance(whole, dict):
            return "unavailable (no usage)"
        return {name: whole[name] for name in ("quota", "totals", "by_service", "cost") if name in whole}
