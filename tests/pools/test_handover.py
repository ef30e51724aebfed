"""What two generations of a pool tell each other, note by note."""

from math import inf

import pytest

from pools.admission import Granted, Lease, Outcome, Refusal, Waiter
from pools.demand import UNKNOWN, Demand, Priority
from pools.endpoint import Endpoint
from pools.handover import pack, unpack
from pools.lender import Borrower, Lender
from pools.pool import Pool
from pools.retired import AWAY_S, Retired
from pools.settings import PoolSettings
from tests.pools.building import BAD, GOOD, first_of, lease, make_pool, wait

Told = list[tuple[str, dict[str, object]]]


def notes() -> tuple[Told, "Tell"]:
    """Return what is told, and what tells it."""
    told: Told = []
    return told, Tell(told)


class Tell:
    """Writes down what is told."""

    def __init__(self, told: Told) -> None:
        self.told = told

    def __call__(self, note: str, **given: object) -> None:
        """Tell something."""
        self.told.append((note, given))


def engines(slots: int = 1, count: int = 1) -> list[Endpoint]:
    """Make endpoints at addresses of their own."""
    return [Endpoint(f"e{number}", f"10.0.0.{number}", 80, slots) for number in range(1, count + 1)]


def speech_pool(slots: int) -> Pool:
    """Make a pool of one engine for speech."""
    pool = Pool(
        "p", PoolSettings(endpoints=("set:1",), kind="speech", repeatable=True), engines(slots), first_of, float
    )
    pool.observe(pool.endpoints[0], GOOD, 0.0)
    return pool


def take(pool: Pool, demand: Demand, now: float = 0.0) -> Lease:
    """Take a slot for a text."""
    admission = pool.admit("me", now, demand=demand)
    assert isinstance(admission, Lease)
    return admission


@pytest.mark.parametrize(
    "demand",
    [UNKNOWN, Demand(30.0, "alloy", "ann", Priority.BULK, deadline=9.0, first=10.0, due=7.5, affinity="call-7")],
)
def test_a_demand_arrives_as_it_was(demand: Demand) -> None:
    """On a clock of another beginning; what another version of the program adds is passed over."""
    arrived = unpack(pack(demand, 5.0) | {"mood": "glad"}, 105.0)
    assert arrived.deadline == (inf if demand is UNKNOWN else 109.0)
    assert arrived.due == (None if demand is UNKNOWN else 107.5)
    assert arrived._replace(deadline=demand.deadline, due=demand.due) == demand


def test_a_retired_pool_tells_who_holds_slots_and_who_waits() -> None:
    """It keeps as many as are held, and no second attempts are made."""
    pool, (told, tell) = speech_pool(3), notes()
    take(pool, Demand(1200, "alloy", "ann"))
    take(pool, Demand(12, "alloy", "bob"))
    take(pool, Demand(12, "alloy", "ann"))
    pool.admit("me", 0.5, demand=Demand(60, "alloy", "eve"))
    assert pool.hedges
    assert Retired(pool, tell).begin(0.5) == []
    assert not pool.hedges
    (held, holdings), (wanted, given) = told
    assert (held, wanted) == ("held", "wanted")
    leases = holdings["leases"]
    assert isinstance(leases, dict)
    first, *others = leases["10.0.0.1:80"]
    # Short texts should have ended by now.
    assert first["caller"] == "ann"
    assert 0.4 < first["left_s"] < 0.7
    assert sorted((one["caller"], one["left_s"]) for one in others) == [("ann", 0.0), ("bob", 0.0)]
    assert given["usable"] == ["10.0.0.1:80"]
    assert (given["waited_s"], given["again"]) == (0.0, False)
    assert pool.endpoints[0].limit == 3


def test_a_slot_that_nobody_can_use_is_given_back() -> None:
    """Only when no waiter takes it; and who has asked for another does so no more."""
    pool, (told, tell) = make_pool(*engines(slots=2)), notes()
    first, second = lease(pool), lease(pool)
    wait(pool)
    Retired(pool, tell).begin(0.0)
    (event,) = pool.release(first, Outcome.SUCCEEDED, 1.0)
    assert isinstance(event, Granted)
    assert [note for note, _ in told] == ["held", "wanted", "unwanted"]
    assert pool.release(second, Outcome.FAILED, 1.0) == []
    assert told[3:] == [("returned", {"address": "10.0.0.1:80", "caller": ""})]
    assert pool.endpoints[0].limit == 1


def test_a_slot_that_comes_too_late_is_given_back() -> None:
    """Its waiter has left, which was told when the slot was on its way."""
    pool, (told, tell) = make_pool(*engines()), notes()
    lease(pool)
    waiter = wait(pool)
    retired = Retired(pool, tell)
    retired.begin(0.0)
    pool.leave(waiter)
    assert retired.lent({"ticket": 1, "address": "10.0.0.1:80"}, 1.0) == []
    assert [note for note, _ in told] == ["held", "wanted", "unwanted", "returned"]
    # Nor is it of use to say that there is none.
    assert retired.displaced({"ticket": 1}, 1.0) == ()
    assert pool.endpoints[0].ready


def test_a_slot_is_for_whoever_is_first_in_its_own_queue() -> None:
    """For whom it was lent asks again, and keeps its time of waiting."""
    pool, (told, tell) = make_pool(*engines()), notes()
    lease(pool)
    first, second = wait(pool, 1.0), wait(pool, 2.0)
    retired = Retired(pool, tell)
    retired.begin(3.0)
    (event,) = retired.lent({"ticket": 2, "address": "10.0.0.1:80"}, 5.0)
    assert event.waiter is first
    assert [note for note, _ in told[3:]] == ["unwanted", "wanted"]
    assert told[3][1] == {"ticket": 1}
    assert (told[4][1]["waited_s"], told[4][1]["again"]) == (3.0, True)
    pool.leave(second)


def test_an_endpoint_that_cannot_be_lent_is_asked_for_again() -> None:
    """Meanwhile who waits for it must look elsewhere: its process may know better who is ready."""
    pool, (told, tell) = make_pool(*engines(count=2)), notes()
    one, other = pool.endpoints
    leases = [lease(pool), lease(pool)]
    waiter, stays = wait(pool, tried=[other]), wait(pool)
    retired = Retired(pool, tell)
    retired.begin(0.0)
    (event,) = retired.displaced({"ticket": 1}, 1.0)
    assert event.waiter is waiter
    assert not one.ready
    assert pool.admit("me", 1.0, frozenset({other})) is Refusal.NO_ENDPOINT
    assert told[3:] == [("unwanted", {"ticket": 2}), ("wanted", told[4][1])]
    assert told[4][1]["usable"] == ["10.0.0.2:80"]
    assert told[4][1]["again"] is True
    pool.tick(1.0 + AWAY_S)
    assert one.ready
    assert told[-1][1]["usable"] == ["10.0.0.1:80", "10.0.0.2:80"]
    pool.leave(stays)
    for held in leases:
        pool.release(held, Outcome.LEFT, 3.0)
    assert not pool.inflight


def test_a_greedy_caller_is_kept_from_slots_only_by_the_successor() -> None:
    """And nobody is refused by a pool that does not know how many slots there are."""
    pool, (_, tell) = speech_pool(5), notes()
    text = Demand(12_000, "alloy", "greedy", deadline=20.0)
    leases = [take(pool, text) for _ in range(2)]
    leases.append(take(pool, Demand(10, "alloy", "bob")))
    while isinstance(admission := pool.admit("me", 0.0, demand=text), Lease):
        leases.append(admission)
    retired = Retired(pool, tell)
    retired.begin(0.0)
    assert isinstance(pool.admit("me", 0.0, demand=text), Waiter)
    (event,) = retired.lent({"ticket": 1, "address": "10.0.0.1:80"}, 0.0)
    assert event.waiter.demand.caller == "greedy"


def test_what_is_held_is_counted_with_its_work_and_its_caller() -> None:
    """More of it than slots only keeps others waiting; who has left first is known by name."""
    pool, (told, tell) = speech_pool(1), notes()
    lender = Lender(pool, tell)
    holdings = [{"caller": "ann", "left_s": 0.0}, {"caller": "bob", "left_s": 2.0}]
    lender.hold({"leases": {"10.0.0.1:80": holdings}}, 0.0)
    (endpoint,) = pool.endpoints
    assert (endpoint.inflight, endpoint.free) == (2, -1)
    assert pool.admit("me", 0.0, demand=Demand(10, deadline=1.0)) is Refusal.TOO_LATE
    waiter = pool.admit("me", 0.0, demand=Demand(10))
    assert lender.returned({"address": "10.0.0.1:80", "caller": "bob"}, 1.0) == []
    assert isinstance(pool.admit("me", 1.0, demand=Demand(10, deadline=2.0)), Waiter)
    (event,) = lender.returned({"address": "10.0.0.1:80", "caller": "eve"}, 1.0)
    assert event.waiter is waiter
    assert lender.returned({"address": "10.0.0.1:80", "caller": "eve"}, 1.0) == ()
    assert not told


def test_who_has_waited_longer_there_is_served_first() -> None:
    """Whichever process it waits in."""
    pool, (told, tell) = make_pool(*engines()), notes()
    lender = Lender(pool, tell)
    lender.hold({"leases": {"10.0.0.1:80": []}}, 0.0)
    held = lease(pool)
    wait(pool, 5.0)
    want = {"usable": ["10.0.0.1:80"], "waited_s": 3.0, "again": False, "demand": pack(UNKNOWN, 0.0)}
    assert lender.wanted(want | {"ticket": 7}, 6.0) == []
    (event,) = pool.release(held, Outcome.SUCCEEDED, 7.0)
    assert isinstance(event, Granted)
    borrower = event.waiter.owner
    assert isinstance(borrower, Borrower)
    borrower.granted(event.lease)
    assert told == [("lent", {"ticket": 7, "address": "10.0.0.1:80"})]
    # It was on its way.
    assert lender.unwanted({"ticket": 7}, 7.0) == ()
    assert pool.inflight == 1


def test_three_generations_pass_slots_on() -> None:
    """What the second has counted for the first, it holds for the third; and whoever waits in it waits there."""
    pool, (to_first, tell_first) = make_pool(*engines(slots=2)), notes()
    to_third, tell_third = notes()
    lender = Lender(pool, tell_first)
    lender.hold({"leases": {"10.0.0.1:80": [{"caller": "", "left_s": 0.0}] * 2}}, 0.0)
    want = {"ticket": 7, "usable": ["10.0.0.1:80"], "waited_s": 1.0, "again": False, "demand": pack(UNKNOWN, 0.0)}
    lender.wanted(want, 1.0)
    retired = Retired(pool, tell_third)
    retired.begin(1.0)
    assert [note for note, _ in to_third] == ["held", "wanted"]
    (event,) = retired.lent({"ticket": 1, "address": "10.0.0.1:80"}, 2.0)
    assert isinstance(event, Granted)
    assert isinstance(event.waiter.owner, Borrower)
    event.waiter.owner.granted(event.lease)
    assert to_first == [("lent", {"ticket": 7, "address": "10.0.0.1:80"})]
    lender.returned({"address": "10.0.0.1:80", "caller": ""}, 3.0)
    assert to_third[2:] == [("returned", {"address": "10.0.0.1:80", "caller": ""})]
    assert lender.end(4.0) == []
    assert len(to_third) == 5
    assert pool.endpoints[0].limit == 0


def test_an_endpoint_that_was_the_predecessors_alone_waits_for_its_end() -> None:
    """It has come back into the configuration while its old slots are in use."""
    pool, (told, tell) = make_pool(*engines()), notes()
    lender = Lender(pool, tell)
    lender.hold({"leases": {"10.0.0.1:80": [], "10.0.0.2:80": [{"caller": "", "left_s": 1.0}]}}, 0.0)
    assert told == [("alone", {"addresses": ["10.0.0.2:80"]})]
    back = engines(count=2)[1]
    pool.join(back)
    pool.observe(back, GOOD, 1.0)
    held = lease(pool)
    assert held.endpoint is not back
    waiter = wait(pool)
    (event,) = lender.end(2.0)
    assert event.waiter is waiter
    assert back.inflight == 1


def test_an_endpoint_that_joins_a_retired_pool_is_the_successors() -> None:
    """Its slots are asked for as those of others."""
    pool, (told, tell) = make_pool(*engines()), notes()
    held = lease(pool)
    Retired(pool, tell).begin(0.0)
    wait(pool)
    found = engines(count=2)[1]
    pool.join(found)
    pool.observe(found, GOOD, 1.0)
    assert found.limit == 0
    assert told[-1][1]["usable"] == ["10.0.0.1:80", "10.0.0.2:80"]
    pool.observe(found, BAD, 1.0)
    pool.release(held, Outcome.SUCCEEDED, 2.0)


def test_nobody_asks_for_what_is_the_old_ones_alone() -> None:
    """Its waiters are served by its own slots, as ever."""
    pool, (told, tell) = make_pool(*engines(slots=2)), notes()
    held = [lease(pool), lease(pool)]
    waiter = wait(pool)
    retired = Retired(pool, tell)
    retired.begin(0.0)
    assert retired.alone({"addresses": ["10.0.0.1:80"]}, 1.0) == []
    assert [note for note, _ in told] == ["held", "wanted", "unwanted"]
    assert pool.endpoints[0].limit == 2
    (event,) = pool.release(held[0], Outcome.SUCCEEDED, 2.0)
    assert event.waiter is waiter
    assert len(told) == 3


def test_a_slot_is_lent_only_of_an_endpoint_that_was_asked_for() -> None:
    """Of one that joins later the old process may know nothing."""
    pool, (told, tell) = make_pool(*engines()), notes()
    lender = Lender(pool, tell)
    lender.hold({"leases": {"10.0.0.1:80": []}}, 0.0)
    lease(pool)
    want = {"ticket": 1, "usable": ["10.0.0.1:80"], "waited_s": 0.0, "again": False, "demand": pack(UNKNOWN, 0.0)}
    assert lender.wanted(want, 0.0) == []
    found = engines(count=2)[1]
    pool.join(found)
    assert pool.observe(found, GOOD, 1.0) == (True, [])
    assert found.free == 1
    assert not told
