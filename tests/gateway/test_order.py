"""What a caller asks for, read from its query and fields, or the first fault in it."""

import pytest

from sovren_edge.gateway.egress.policy import Denial, Target
from sovren_edge.gateway.proxy.order import NOT_REPEATABLE, RETRY_MALFORMED, Order, read_aim, read_order, trial
from sovren_edge.gateway.settings import GatewaySettings, ServiceSettings

SETTINGS = GatewaySettings(
    services={
        "slack": ServiceSettings(hosts=("slack.com",)),
        "zoom": ServiceSettings(hosts=("api.zoom.us",), mode="report"),
    }
)
QUERY = b"url=https://slack.com/api/x%3Fa=1"
TARGET = Target("https://slack.com/api/x?a=1", "slack.com", "/api/x")


def test_a_destination_is_judged_by_its_service() -> None:
    """A service on trial is not refused what its list would refuse, and it is said why it would."""
    assert read_aim(QUERY) == TARGET
    assert trial(TARGET, "slack", SETTINGS) == ""
    assert trial(TARGET, "zoom", SETTINGS) == "service_host_mismatch"
    assert trial(Target("https://api.zoom.us/", "api.zoom.us", "/"), "zoom", SETTINGS) == ""


@pytest.mark.parametrize(
    ("query", "service", "reason"),
    [
        (b"", "slack", "url_missing"),
        (b"url=http://slack.com", "slack", "scheme_not_allowed"),
        (b"url=https://example.com", "slack", "host_not_allowed"),
        (b"url=https://127.0.0.1", "zoom", "ip_prohibited"),
        (QUERY, "teams", "unknown_service"),
    ],
)
def test_what_leads_nowhere(query: bytes, service: str, reason: str) -> None:
    """Being on trial helps neither a URL that is none nor a service that nobody knows."""
    target = read_aim(query)
    denial = target if isinstance(target, Denial) else trial(target, service, SETTINGS)
    assert isinstance(denial, Denial)
    assert denial.reason == reason


def order(*given: tuple[str, str]) -> Order | Denial:
    """Read an order to slack."""
    return read_order(TARGET, "slack", given)


def test_an_order_has_what_was_asked() -> None:
    """A POST without anything else, or what the caller's fields say."""
    assert order() == Order("slack", TARGET, "POST", [], None, 0)
    full = order(
        ("X-Upstream-Method", "GET"),
        ("Accept", "text/plain"),
        ("X-Upstream-Authorization", "Basic x"),
        ("X-Gateway-Retry", " 2 "),
        ("Idempotency-Key", " k1 "),
    )
    fields = [("Accept", "text/plain"), ("Idempotency-Key", "k1")]
    assert full == Order("slack", TARGET, "GET", fields, "Basic x", 2, "", "k1")
    assert isinstance(full, Order)
    assert full.safe


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([("X-Upstream-Method", "TRACE")], "upstream_method_not_allowed"),
        ([("X-Upstream-Host", "evil")], "field_not_allowed"),
        ([("X-Upstream-Authorization", "a"), ("X-Upstream-Authorization", "b")], "field_repeated"),
        ([("X-Gateway-Retry", "3")], RETRY_MALFORMED.reason),
        ([("X-Gateway-Retry", "1"), ("X-Gateway-Retry", "1")], RETRY_MALFORMED.reason),
        ([("X-Gateway-Retry", "1")], NOT_REPEATABLE.reason),
    ],
)
def test_what_cannot_be_sent(given: list[tuple[str, str]], reason: str) -> None:
    """The first fault is told."""
    denial = order(*given)
    assert isinstance(denial, Denial)
    assert denial.reason == reason


def test_a_key_makes_a_post_repeatable() -> None:
    """Its outcome is the same however often it is sent."""
    repeatable = order(("X-Gateway-Retry", "1"), ("Idempotency-Key", "k"))
    assert isinstance(repeatable, Order)
    assert repeatable.retries == 1
    assert not repeatable.safe
