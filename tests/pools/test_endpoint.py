"""What an endpoint is: an address, slots, and whether it is ready."""

import pytest

from pools.endpoint import Endpoint
from tests.pools.building import BAD, GOOD, REFUSED, make_endpoint


@pytest.mark.parametrize(("host", "address"), [("10.0.0.1", b"10.0.0.1:8100"), ("::1", b"[::1]:8100")])
def test_an_address_is_written_as_a_host_field_has_it(host: str, address: bytes) -> None:
    """An IPv6 address stands in brackets."""
    assert Endpoint("a", host, 8100, 1).address == address


def test_an_endpoint_is_ready_when_healthy_and_enabled_and_not_ejected() -> None:
    """Each of the three takes readiness away on its own."""
    endpoint = make_endpoint()
    assert not endpoint.ready
    endpoint.health.observe(GOOD)
    assert endpoint.ready
    endpoint.enabled = False
    assert not endpoint.ready
    endpoint.enabled = True
    endpoint.outlier.eject(0.0, 0.0)
    assert not endpoint.ready


def test_an_absent_endpoint_is_never_used() -> None:
    """It is part of the map alone: neither ready nor good for panic."""
    endpoint = make_endpoint(absent=True)
    endpoint.health.observe(GOOD)
    assert not endpoint.ready
    assert not endpoint.usable_in_panic


def test_panic_asks_for_no_more_than_an_accepted_connection() -> None:
    """An endpoint that answers errors may serve in panic, one that refuses or is drained may not."""
    endpoint = make_endpoint()
    assert not endpoint.usable_in_panic
    endpoint.health.observe(BAD)
    assert endpoint.usable_in_panic
    endpoint.enabled = False
    assert not endpoint.usable_in_panic
    endpoint.enabled = True
    endpoint.health.observe(REFUSED)
    assert not endpoint.usable_in_panic
