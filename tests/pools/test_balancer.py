"""The order of preference: fewest open leases, ties at random."""

from collections import Counter
from random import Random

import pytest

from pools.balancer import least_inflight
from pools.endpoint import Endpoint
from tests.pools.building import first_of, make_endpoint


def with_inflight(*inflight: int, slots: int = 3) -> list[Endpoint]:
    """Make endpoints, named by their position, with so many open leases."""
    endpoints = [make_endpoint(str(position), slots=slots) for position in range(len(inflight))]
    for endpoint, count in zip(endpoints, inflight, strict=True):
        endpoint.inflight = count
    return endpoints


@pytest.mark.parametrize(
    ("inflight", "chosen"),
    [((2, 1, 2), "1"), ((0, 1, 2), "0"), ((3, 3, 2), "2"), ((3, 2, 3), "1"), ((2, 1, 0), "2"), ((2, 2, 1), "2")],
)
def test_the_fewest_open_leases_win(inflight: tuple[int, ...], chosen: str) -> None:
    """Among those with a free slot, wherever they stand."""
    endpoint = least_inflight(with_inflight(*inflight), first_of)
    assert endpoint is not None
    assert endpoint.name == chosen


@pytest.mark.parametrize("inflight", [(), (3,), (3, 3)])
def test_nobody_is_chosen_where_no_slot_is_free(inflight: tuple[int, ...]) -> None:
    """Slots are hard."""
    assert least_inflight(with_inflight(*inflight), first_of) is None


def test_a_limit_below_the_slots_holds() -> None:
    """An endpoint back from an ejection has one slot."""
    (endpoint,) = with_inflight(0)
    endpoint.limit = 1
    assert least_inflight([endpoint], first_of) is endpoint
    endpoint.inflight = 1
    assert least_inflight([endpoint], first_of) is None


def test_ties_are_broken_uniformly() -> None:
    """Of four equals and two others, each equal gets a quarter, within five standard deviations."""
    endpoints = with_inflight(2, 0, 0, 1, 0, 0)
    random = Random(7)
    chosen = Counter(least_inflight(endpoints, random.randrange) for _ in range(4000))
    assert {endpoint.name for endpoint in chosen if endpoint} == {"1", "2", "4", "5"}
    assert all(abs(count - 1000) < 5 * (4000 * 3 / 16) ** 0.5 for count in chosen.values())


def test_a_heavier_endpoint_has_more() -> None:
    """Three to one, counted with the request that is to be placed."""
    light, heavy = with_inflight(0, 0, slots=9)
    heavy.weight = 3.0
    for _ in range(8):
        chosen = least_inflight([light, heavy], first_of)
        assert chosen is not None
        chosen.inflight += 1
    assert (light.inflight, heavy.inflight) == (2, 6)
