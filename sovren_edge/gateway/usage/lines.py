"""Owns the two forms of an answer about usage, piece by piece: JSON, and CSV, which is its series alone.

In CSV, what a spreadsheet would take for a formula is made plain text. Must not know requests, clocks or databases.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import orjson

from sovren_edge.gateway.usage.terms import Terms
from sovren_edge.gateway.usage.told import COUNTED, Point, tell_point

COLUMNS = ("start", "service", "status", *COUNTED, "cost_usd")

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


async def json_lines(
    told: Mapping[str, Any], points: AsyncIterator[Point], terms: Terms, following: str | None
) -> AsyncIterator[bytes]:
    """Yield an object with all that is told, the series, and the cursor of the following page."""
    yield orjson.dumps(told)[:-1] + b',"series":['
    comma = b""
    async for point in points:
        yield comma + orjson.dumps(tell_point(point, terms))
        comma = b","
    yield b'],"next_cursor":' + orjson.dumps(following) + b"}"


async def csv_lines(points: AsyncIterator[Point], terms: Terms) -> AsyncIterator[bytes]:
    """Yield a line of names, and one for each row of the series."""
    yield csv_line(COLUMNS)
    async for point in points:
        told = tell_point(point, terms)
        yield csv_line(told.get(name) for name in COLUMNS)


def csv_line(cells: Iterable[object]) -> bytes:
    """Write one line (RFC 4180)."""
    return (",".join(_cell(cell) for cell in cells) + "\r\n").encode()


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    if text.startswith(_FORMULA):
        text = f"'{text}"
    if any(character in text for character in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text
