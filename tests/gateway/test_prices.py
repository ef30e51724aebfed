"""What a request costs, and which of several prices counts."""

import re
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sovren_edge.gateway.ledger.rows import RequestRow
from sovren_edge.gateway.money.prices import Prices, canonical
from sovren_edge.gateway.settings import GatewaySettings, PriceSettings

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def make_row(**changes: Any) -> RequestRow:  # noqa: ANN401 - fields of the row
    """Return a request that was charged and has ended."""
    fields = {
        "request_id": UUID(int=7), "created_at": NOON, "owner": "g367-1", "subscriber_id": "ann", "service": "slack",
        "method": "POST", "host": "slack.com", "path": "/api/chat.postMessage", "decision": "settled",
        "grant_charged": True, "granted_us": (1,),
    }  # fmt: skip
    return RequestRow(**(fields | changes))


def make_prices(*prices: dict[str, Any]) -> Prices:
    """Return prices, each with an amount of its place in the list from 1 unless it has one of its own."""
    numbered = [{"amount_microusd": number} | price for number, price in enumerate(prices, 1)]
    return Prices("2026-11", [PriceSettings(**price) for price in numbered])


def expected(path: str, *prices: dict[str, Any]) -> int:
    """Return what a POST to slack will cost."""
    return make_prices(*prices).expected_microusd("slack", "POST", path)


def test_without_prices_everything_is_unpriced() -> None:
    """And costs nothing, which is written down all the same."""
    cost = Prices("", []).cost_of(make_row())
    assert cost is not None
    assert (cost.amount_microusd, cost.source, cost.unit, cost.quantity) == (0, "unpriced", "request", 1)
    elsewhere = make_prices({"service": "zoom"}).cost_of(make_row())
    assert elsewhere is not None
    assert (elsewhere.source, elsewhere.price_version) == ("unpriced", "2026-11")


def test_a_cost_is_its_requests() -> None:
    """It belongs to the moment at which the request began, whenever it is written."""
    cost = make_prices({"service": "slack", "amount_microusd": 250}).cost_of(make_row())
    assert cost is not None
    assert (cost.request_id, cost.created_at, cost.subscriber_id, cost.service) == (UUID(int=7), NOON, "ann", "slack")
    assert (cost.price_version, cost.amount_microusd, cost.source) == ("2026-11", 250, "price")


@pytest.mark.parametrize(
    "changes",
    [
        {"decision": "refused"},
        {"decision": "reserved"},
        {"decision": "unknown"},
        {"grant_charged": False, "granted_us": (None,)},
        {"idempotent_replay": True},
    ],
)
def test_what_was_not_charged_has_no_cost(changes: dict[str, Any]) -> None:
    """Refusals, replays, what was refunded, and what has no end."""
    assert make_prices({}).cost_of(make_row(**changes)) is None


@pytest.mark.parametrize(("granted", "quantity"), [((1,), 1), ((1, 2, 3), 3), ((1, None), 1), ((), 1)])
def test_each_attempt_that_was_sent_is_a_request(granted: tuple[int | None, ...], quantity: int) -> None:
    """Its grant was refunded if it was not."""
    cost = make_prices({"amount_microusd": 250}).cost_of(make_row(granted_us=granted))
    assert cost is not None
    assert (cost.quantity, cost.amount_microusd) == (quantity, quantity * 250)


@pytest.mark.parametrize(
    ("bytes_in", "bytes_out", "quantity"), [(0, 0, 0), (0, 1, 1), (500_000, 500_000, 1), (500_000, 500_001, 2)]
)
def test_every_mb_counts_that_has_begun(bytes_in: int, bytes_out: int, quantity: int) -> None:
    """Of both bodies together, and once, however often it was sent."""
    row = make_row(bytes_in=bytes_in, bytes_out=bytes_out, granted_us=(1, 2))
    cost = make_prices({"unit": "MB", "amount_microusd": 90}).cost_of(row)
    assert cost is not None
    assert (cost.unit, cost.quantity, cost.amount_microusd) == ("MB", quantity, quantity * 90)


def test_what_will_be_spent_is_expected_by_attempts_or_as_one_mb() -> None:
    """Nothing where nothing is priced."""
    by_request = make_prices({"amount_microusd": 250})
    assert by_request.expected_microusd("slack", "GET", "/") == 250
    assert by_request.expected_microusd("slack", "GET", "/", attempts=3) == 750
    by_size = make_prices({"amount_microusd": 90, "unit": "MB"})
    assert by_size.expected_microusd("slack", "GET", "/", attempts=3) == 90
    assert Prices("", []).expected_microusd("slack", "GET", "/") == 0


# From the most specific to the least.
ORDERED: list[dict[str, Any]] = [
    {"service": "slack", "method": "POST", "path": "/api/chat.postMessage"},
    {"service": "slack", "method": "POST", "path": "/api/chat.*"},
    {"service": "slack", "method": "POST", "path": "/api/*"},
    {"service": "slack", "method": "POST", "path": "/api/**"},
    {"service": "slack", "method": "POST", "path": "/**"},
    {"service": "slack", "method": "POST"},
    {"service": "slack", "path": "/api/chat.postMessage"},
    {"service": "slack"},
    {"method": "POST", "path": "/api/chat.postMessage"},
    {"method": "POST"},
    {"path": "/api/chat.postMessage"},
    {},
]


@given(st.permutations(list(enumerate(ORDERED, 1))), st.integers(0, len(ORDERED) - 1))
def test_the_most_specific_price_counts(order: list[tuple[int, dict[str, Any]]], without: int) -> None:
    """In whatever order the prices stand, and the next one where it is missing."""
    left = [price | {"amount_microusd": number} for number, price in order if number > without]
    assert expected("/api/chat.postMessage", *left) == without + 1


def test_of_equally_specific_prices_the_first_counts() -> None:
    """Two paths that are different and cover the same request."""
    first, second = {"path": "/*/b"}, {"path": "/a/*"}
    assert expected("/a/b", first, second) == expected("/a/b", second, first) == 1


@pytest.mark.parametrize(
    ("glob", "covered", "not_covered"),
    [
        ("/", ["/", "/."], ["/a", "//"]),
        ("/a", ["/a", "/%61", "/x/../a", "/./a"], ["/a/", "/A", "/ab", "/a%2F"]),
        ("/a/*", ["/a/", "/a/b", "/a/b.c", "/a/b%2fc"], ["/a", "/a/b/c", "/a/b/"]),
        ("/a/**", ["/a/", "/a/b", "/a/b/c", "/a//"], ["/a", "/ab/c", "/a/../b"]),
        ("/**", ["/", "/a", "/a/b/"], []),
        ("/*/messages", ["/v1/messages", "//messages"], ["/messages", "/v1/a/messages"]),
        ("/a*b*c", ["/abc", "/a.b.c", "/abbcc"], ["/ab", "/a/b/c", "/abcd", "/acb"]),
        ("/*/*/**", ["/a/b/c", "/a/b/"], ["/a/b"]),
        ("/a(b)+[c]$", ["/a(b)+[c]$"], ["/abc"]),
        ("/%7Eann/*", ["/~ann/x", "/%7eann/x"], ["/%7E%7Eann/x"]),
    ],
)
def test_what_a_path_covers(glob: str, covered: list[str], not_covered: list[str]) -> None:
    """A star stays within its segment; a spelling that means the same is the same."""
    assert [path for path in covered if not expected(path, {"path": glob})] == []
    assert [path for path in not_covered if expected(path, {"path": glob})] == []


PIECE = st.text("ab.", min_size=1, max_size=3)
SEGMENT = st.lists(st.one_of(st.just("*"), PIECE), max_size=5).map("".join).filter(lambda text: "**" not in text)


@given(st.lists(SEGMENT, min_size=1, max_size=3), st.booleans(), st.text("ab./", max_size=12))
def test_a_path_covers_what_a_plain_expression_says(segments: list[str], below: bool, path: str) -> None:  # noqa: FBT001 - drawn
    """Although its own cannot be made slow."""
    glob, sent = canonical("/" + "/".join(segments)), canonical("/" + path)
    plain = re.escape(glob).replace(r"\*", "[^/]*") + ("/.*" if below else "")
    found = expected(sent, {"path": glob + "/**" * below}) > 0
    assert found == (re.fullmatch(plain, sent) is not None)


@given(st.text("ab./%26EFef", max_size=20).map("/".__add__))
def test_spelling_a_path_again_changes_nothing(path: str) -> None:
    """And what is left has no dots to follow, but for escapes of escapes."""
    once = canonical(path)
    assert once.startswith("/")
    assert not {".", ".."} & set(once.split("/"))
    if "%" not in once:
        assert canonical(once) == once


def test_no_path_is_slow() -> None:
    """8 KiB of what stars like best, under as many of them as one may write."""
    glob = "/" + "*a" * 40 + "*/" + "*a" * 40 + "b"
    begun = time.process_time()
    assert expected("/" + "a" * 4000 + "/" + "a" * 4000, {"path": glob}) == 0
    # Nobody would see the end of trying all ways; a machine with other work to do may take a moment.
    assert time.process_time() - begun < 5.0


@pytest.mark.parametrize("path", ["", "a", "/a?b", "/a b", "/**/a", "/a**", "/***", "/a#", "/ä", "/a\\b", "/a\n"])
def test_what_is_no_path_is_a_fault(path: str) -> None:
    """Two stars are a segment of their own, and the last one."""
    with pytest.raises(ValidationError, match="a path as in"):
        PriceSettings(path=path, amount_microusd=1)


@pytest.mark.parametrize(
    "wrong", [{"unit": "mb"}, {"amount_microusd": -1}, {"amount_microusd": 0.5}, {"service": "S"}, {"method": "post"}]
)
def test_what_is_no_price_is_a_fault(wrong: dict[str, Any]) -> None:
    """Amounts are whole."""
    with pytest.raises(ValidationError):
        PriceSettings(**({"amount_microusd": 1} | wrong))


def test_prices_have_a_version_and_are_clear() -> None:
    """A cost tells the prices that it was reckoned by, and no two prices contradict each other."""
    price = PriceSettings(service="slack", amount_microusd=1)
    with pytest.raises(ValidationError, match="price_version"):
        GatewaySettings(prices=(price,))
    with pytest.raises(ValidationError, match="one price for the same"):
        GatewaySettings(price_version="1", prices=(price, PriceSettings(service="slack", amount_microusd=2)))
    assert GatewaySettings(price_version="1", prices=(price,)).prices == (price,)
