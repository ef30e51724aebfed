"""Grants of one process: the limiter behind the seam, with a clock of its own."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from sovren_edge.gateway import clocks
from sovren_edge.gateway.limit.grants import Grants, LocalGrants
from sovren_edge.gateway.limit.limiter import Exceeded, Granted, Limiter, NotSeeded, Quota

HOUR_US = 3_600_000_000
NOW_US = 1_000_000_000_000


def make_grants(limiter: Limiter) -> tuple[Grants, SimpleNamespace]:
    """Return grants of one limiter, and their clock."""
    clock = SimpleNamespace(us=NOW_US)
    return LocalGrants(limiter, lambda: clock.us, "boot"), clock


async def test_a_request_is_granted_confirmed_and_ended() -> None:
    """A settled grant stays, a refunded one is had again, and all times are of the clock that is handed in."""
    limiter = Limiter(lambda: 1, HOUR_US)
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


def test_where_boots_have_no_names_no_two_processes_compare_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on Linux a clock is known to its process alone."""
    assert clocks.boot_clock() == clocks.boot_clock()
    assert clocks.boot_clock().startswith(("boot:", "process:"))
    monkeypatch.setattr(clocks, "BOOT_ID", Path("/nonexistent"))
    assert clocks.boot_clock().startswith("process:")
    before_us = clocks.boot_us()
    assert clocks.boot_us() >= before_us > 0
