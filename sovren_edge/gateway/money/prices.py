"""Owns what a request costs: from the prices of the configuration and a request's row to its cost.

The most specific price counts. One that names the service is more specific than any that does not; of those, one that
names the method; of those, one that has a path: the path with the most characters that are not stars, then the one
with the fewest stars; then the first in the file. In a path, `*` stands for any characters within one segment, and
`/**` at its end for everything below. Paths are compared as servers read them: `%61` is `a`, and `/x/../a` is `/a`.

Amounts are millionths of a US dollar. A price is of a request (each attempt that was sent is one) or of an MB: of each
1,000,000 bytes of both bodies together that have begun. Must not know budgets, the ledger or clocks.
"""

import re
from collections.abc import Iterable
from typing import Literal

from sovren_edge.gateway.ledger.rows import CostRow, RequestRow
from sovren_edge.gateway.settings import PriceSettings

MB = 1_000_000
PRICED, UNPRICED = "price", "unpriced"

_ESCAPE = re.compile("%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile("[A-Za-z0-9._~-]")


class _Price:
    """A price whose path can be compared."""

    def __init__(self, settings: PriceSettings) -> None:
        self.service = settings.service
        self.method = settings.method
        self.unit: Literal["request", "MB"] = settings.unit
        self.amount_microusd = settings.amount_microusd
        glob = "" if settings.path is None else canonical(settings.path)
        self._path = re.compile(_expression(glob)) if glob else None
        stars = glob.count("*")
        self.order = (self.service is None, self.method is None, not glob, stars - len(glob), stars)

    def covers(self, service: str, method: str, path: str) -> bool:
        """Tell whether it is the price of such a request, if there were no other."""
        return (
            self.service in {None, service}
            and self.method in {None, method}
            and (self._path is None or self._path.fullmatch(path) is not None)
        )


class Prices:
    """The prices of one version; what none of them covers costs nothing, and is called unpriced."""

    def __init__(self, version: str, prices: Iterable[PriceSettings]) -> None:
        self.version = version
        self._prices = sorted((_Price(each) for each in prices), key=lambda price: price.order)

    def expected_microusd(self, service: str, method: str, path: str, attempts: int = 1) -> int:
        """Return what a request will cost if it is sent so often; of a price by size, one MB is expected."""
        price = self._find(service, method, path)
        return 0 if price is None else price.amount_microusd * (attempts if price.unit == "request" else 1)

    def cost_of(self, row: RequestRow) -> CostRow | None:
        """Return what a request has cost, as of when it began; None unless it has ended and was charged."""
        if row.decision != "settled" or not row.grant_charged or row.idempotent_replay:
            return None
        price = self._find(row.service, row.method, row.path)
        unit = "request" if price is None else price.unit
        quantity = _quantity(unit, row)
        return CostRow(
            request_id=row.request_id,
            created_at=row.created_at,
            subscriber_id=row.subscriber_id,
            service=row.service,
            price_version=self.version,
            unit=unit,
            quantity=quantity,
            amount_microusd=0 if price is None else price.amount_microusd * quantity,
            source=UNPRICED if price is None else PRICED,
        )

    def _find(self, service: str, method: str, path: str) -> _Price | None:
        if not self._prices:
            return None
        sent = canonical(path)
        return next((price for price in self._prices if price.covers(service, method, sent)), None)


def canonical(path: str) -> str:
    """Return a path as servers read it (RFC 3986, section 6.2.2): a caller chooses no price by its spelling."""
    segments = _ESCAPE.sub(_unescaped, path).split("/")[1:]
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            kept = kept[:-1]
        elif segment != ".":
            kept.append(segment)
    if segments[-1:] in (["."], [".."]):
        kept.append("")
    return "/" + "/".join(kept)


def _unescaped(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if _UNRESERVED.fullmatch(character) else escape[0].upper()


def _expression(glob: str) -> str:
    above = glob.removesuffix("/**")
    below = "" if above == glob else "/.*"
    return "/".join(_segment(segment) for segment in above.split("/")) + below


def _segment(glob: str) -> str:
    """Return an expression whose time grows with the path's length alone: what stands between stars is found once."""
    first, *rest = [re.escape(part) for part in glob.split("*")]
    if not rest:
        return first
    return first + "".join(f"(?>[^/]*?{part})" for part in rest[:-1]) + f"[^/]*{rest[-1]}"


def _quantity(unit: Literal["request", "MB"], row: RequestRow) -> int:
    if unit == "MB":
        return -(-(row.bytes_in + row.bytes_out) // MB)
    return max(sum(granted is not None for granted in row.granted_us), 1)
