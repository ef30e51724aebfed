"""Grants of one process: the limiter behind the seam, with a clock of its own."""

from types import SimpleNamespace

from sovren_edge.gateway.grants import Grants, LocalGrants
from sovren_edge.gateway.limiter import Exceeded, Granted, Limiter, NotSeeded, Quota

HOUR_US = 3_600_000_000
NOW_US = 1_000_000_000_000


def make_grants(limiter: Limiter) -> tuple[Grants, SimpleNamespace]:
    """Return grants of one limiter, and their clock."""
    clock = SimpleNamespace(us=NOW_US)
    return LocalGrants(limiter, lambda: clock.us, "boot"), clock


async def test_a_request_is_granted_confirmed_and_ended() -> None:
    """A settled grant stays, a refunded one is had again, and all times are of the clock that is handed in."""
    limiter = Limiter(1, HOUR_US)
    grants, clock = make_grants(limiter)
    assert await grants.grant("ann", "early") == NotSeeded()
    limiter.finish_seeding()
    granted = await grants.grant("ann", "a")
    assert isinstance(granted, Granted)
    assert await grants.confirm("ann", "a", granted) == granted
    await grants.refund("ann", "a")
    assert isinstance(await grants.grant("ann", "b"), Granted)
    await grants.settle("ann", "b")
    await grants.refund("ann", "b")
    full = Quota(1, 1, NOW_US + HOUR_US, NOW_US + HOUR_US)
    assert await grants.grant("ann", "c") == Exceeded(full)
    assert await grants.look("ann") == full
    clock.us += HOUR_US
    assert grants.now_us() == clock.us
    assert (await grants.look("ann")).used == 0
