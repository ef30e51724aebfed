"""Owns `GET /usage/{subscriber_id}`: who may ask, and how the answer flows.

All of an answer is read at one moment, and its series from a cursor, so that it may be long. Must not know how usage is
added up or written down.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal
from zoneinfo import available_timezones

from aiohttp.web import Request, StreamResponse
from pydantic import BeforeValidator, Field

from sovren_edge.errors import EdgeError
from sovren_edge.gateway.limit.grants import Grants
from sovren_edge.gateway.limit.limits_told import own_limit_fields
from sovren_edge.gateway.money.budgets import Budgets
from sovren_edge.gateway.subscribers import Subscribers
from sovren_edge.gateway.usage.buckets import Granularity
from sovren_edge.gateway.usage.lines import csv_lines, json_lines
from sovren_edge.gateway.usage.sql import read_costs, read_series, read_summary
from sovren_edge.gateway.usage.terms import Group, Terms, read_terms, read_zone
from sovren_edge.gateway.usage.told import Point, Told, tell_budget, tell_cost, tell_groups, tell_period, tell_quota
from sovren_edge.handler import Edge, Routes, route
from sovren_edge.handler.invalid import invalid
from sovren_edge.store.connection import Connection
from sovren_edge.store.database import Database

# Answers at once, each of which holds a connection, and how long one may take; its caller's slowness is part of that.
MOST_AT_ONCE, ANSWER_S = 4, 60.0
# Bytes that are gathered before they are sent.
CHUNK = 1 << 16


def _with_plus(text: object) -> object:
    """Read a time whose plus was not encoded, and so came as a space."""
    place = "+HH:MM"
    if isinstance(text, str) and "T" in text and text[-len(place) : 1 - len(place)] == " ":
        return f"{text[: -len(place)]}+{text[1 - len(place) :]}"
    return text


def _split(given: list[str]) -> list[str]:
    return [name for text in given for name in text.split(",") if name]


Moment = Annotated[datetime, BeforeValidator(_with_plus)]
From = Annotated[Moment | None, Field(alias="from", description="ISO 8601; left out: the start of the day of `to`.")]
To = Annotated[Moment | None, Field(alias="to", description="ISO 8601, itself not meant; left out: now.")]
Groups = Annotated[
    frozenset[Group], BeforeValidator(_split), Field(description="What the series is told by: service, status.")
]
Zone = Annotated[str, Field(max_length=64, description="A time zone, for days and for times, as in Europe/Berlin.")]
Format = Annotated[Literal["json", "csv"], Field(alias="format", description="CSV is the series alone.")]
Limit = Annotated[int | None, Field(ge=1, le=10_000, description="Rows of a page; left out: all of them.")]
Cursor = Annotated[str | None, Field(max_length=1 << 14, description="The next_cursor of the page before.")]


@dataclass(frozen=True, kw_only=True)
class _Usage:
    edge: Edge
    database: Database
    grants: Grants
    subscribers: Subscribers
    budgets: Budgets
    complete: Callable[[], bool]
    zones: Collection[str]
    places: asyncio.Semaphore

    async def usage(
        self,
        request: Request,
        subscriber_id: str,
        *,
        since: From = None,
        until: To = None,
        granularity: Granularity = "hour",
        group_by: Groups = frozenset(),
        tz: Zone = "UTC",
        form: Format = "json",
        limit: Limit = None,
        cursor: Cursor = None,
    ) -> StreamResponse:
        """Tell what a subscriber has used and spent in a period, and how it stands with its limit and its budget."""
        await self.subscribers.admit(await self.edge.authenticate(request), subscriber_id)
        try:
            zone = read_zone(tz, self.zones)
            terms = read_terms(
                now=self.edge.clock.now(), since=since, until=until, cursor=cursor,
                zone=zone, granularity=granularity, groups=group_by,
            )  # fmt: skip
            # Ten thousand of them are too many to make between two requests of others.
            buckets = await asyncio.to_thread(terms.buckets)
        except ValueError as error:
            raise invalid([f"query.{error}"]) from None
        answer = StreamResponse(headers={"Cache-Control": "no-store"})
        told = await self._standing(subscriber_id, terms, answer)
        async with self._reading() as connection:
            rows = read_series(connection, subscriber_id, terms, buckets, limit and limit + 1)
            points, following = await _page(rows, terms, limit)
            if form == "csv":
                _head_csv(answer, subscriber_id, following)
                await _send(request, answer, csv_lines(points, terms))
            else:
                told |= tell_groups(await read_summary(connection, subscriber_id, terms))
                told["cost"] = tell_cost(await read_costs(connection, subscriber_id, terms))
                answer.content_type = "application/json"
                await _send(request, answer, json_lines(told, points, terms, following))
        # The connection to PostgreSQL is given back first: a caller that has all may leave at once.
        await answer.write_eof()
        return answer

    async def _standing(self, subscriber: str, terms: Terms, answer: StreamResponse) -> Told:
        """Tell what is of the present, whatever the period; the limit stands in the answer's head as well."""
        quota, now_us = await self.grants.look(subscriber), self.grants.now_us()
        answer.headers.extend(own_limit_fields(quota, now_us))
        account = await self.budgets.look(subscriber)
        return {
            "subscriber_id": subscriber,
            "period": tell_period(terms),
            "complete": self.complete(),
            "quota": tell_quota(quota, now_us),
            "budget": None if account is None else tell_budget(account, terms.zone),
        }

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Connection]:
        """Hold a connection that sees all as of now, but not for ever: its caller may read slowly."""
        try:
            async with asyncio.timeout(ANSWER_S), self.places, self.database.snapshot() as connection:
                yield connection
        except TimeoutError:
            detail = f"The answer was not read within {ANSWER_S:.0f} seconds, or others were before it: ask for pages."
            raise EdgeError(503, "usage_too_slow", detail, retry_after_s=5) from None


async def _page(rows: AsyncIterator[Point], terms: Terms, limit: int | None) -> tuple[AsyncIterator[Point], str | None]:
    """Return the rows to send, and the cursor of the page that follows; one row more than a page has was asked for."""
    if limit is None:
        return rows, None
    page = [row async for row in rows]
    return _each(page[:limit]), terms.cursor(page[limit - 1].key) if len(page) > limit else None


async def _each(points: Sequence[Point]) -> AsyncIterator[Point]:
    for point in points:
        yield point


def _head_csv(answer: StreamResponse, subscriber: str, following: str | None) -> None:
    answer.content_type, answer.charset = "text/csv", "utf-8"
    answer.headers["Content-Disposition"] = f'attachment; filename="usage-{subscriber}.csv"'
    if following is not None:
        answer.headers["X-Next-Cursor"] = following


async def _send(request: Request, answer: StreamResponse, lines: AsyncIterator[bytes]) -> None:
    await answer.prepare(request)
    gathered = bytearray()
    async for line in lines:
        gathered += line
        if len(gathered) >= CHUNK:
            await answer.write(bytes(gathered))
            gathered.clear()
    await answer.write(bytes(gathered))


def usage_routes(
    *,
    edge: Edge,
    database: Database,
    grants: Grants,
    subscribers: Subscribers,
    budgets: Budgets,
    complete: Callable[[], bool],
) -> Routes:
    """Return the route; `complete` says whether PostgreSQL has all that this process has written."""
    usage = _Usage(
        edge=edge,
        database=database,
        grants=grants,
        subscribers=subscribers,
        budgets=budgets,
        complete=complete,
        zones=available_timezones(),
        places=asyncio.Semaphore(MOST_AT_ONCE),
    )
    return [route.get("/usage/{subscriber_id}", usage.usage)]
