"""Which endpoint speaks, and which text is spoken first."""

import gc
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.admission import Displaced, Granted, Lease, Outcome, Refusal, Waiter
from pools.callers import FADE_S
from pools.demand import UNKNOWN, Demand, Priority
from pools.endpoint import Endpoint
from pools.estimate import VOICES
from pools.pool import Pool
from pools.settings import PoolSettings, QueueSettings
from pools.speech import AFFINITIES, PATIENCE, Speech
from pools.tiers import Tiers
from tests.pools.building import GOOD, first_of, make_endpoint

OVERDUE_S = 0.7


def speech_pool(*endpoints: Endpoint, limit: int = 8, timeout_s: float = 30.0) -> Pool:
    """Make a pool for speech whose endpoints are ready at time 0."""
    queue = QueueSettings(limit=limit, timeout_s=timeout_s)
    settings = PoolSettings(endpoints=("set:1",), kind="speech", overdue_s=OVERDUE_S, queue=queue)
    pool = Pool("pool", settings, endpoints, first_of, float)
    for endpoint in endpoints:
        pool.observe(endpoint, GOOD, 0.0)
    return pool


def text(characters: float | None, caller: str = "ann", **more: object) -> Demand:
    """Ask for a text of a length."""
    return Demand(characters, "alloy", caller)._replace(**more)  # type: ignore[arg-type]  # fields by name


def admit(pool: Pool, demand: Demand, now: float = 0.0) -> Lease | Waiter | Refusal:
    """Ask for a slot; the owner is the demand."""
    return pool.admit(demand, now, demand=demand)


def take(pool: Pool, demand: Demand = UNKNOWN, now: float = 0.0) -> Lease:
    """Take a slot that must be free."""
    lease = admit(pool, demand, now)
    assert isinstance(lease, Lease)
    return lease


def queue(pool: Pool, *demands: Demand, now: float = 0.0) -> None:
    """Have texts wait."""
    for demand in demands:
        assert isinstance(admit(pool, demand, now), Waiter)


def served(pool: Pool, lease: Lease, now: float, steps: int = 1) -> list[object]:
    """Free a slot again and again; return who got it, in turn."""
    found = []
    for _ in range(steps):
        (event,) = pool.release(lease, Outcome.LEFT, now)
        assert isinstance(event, Granted)
        lease = event.lease
        found.append(event.waiter.owner)
    return found


def test_the_shorter_text_is_served_first() -> None:
    """Of those that came together; those that are long are all alike."""
    pool = speech_pool(make_endpoint())
    lease = take(pool)
    texts = [text(160), text(20), text(None), text(60)]
    queue(pool, *texts)
    # One that cannot be read costs the mean of what is believed: 600 characters.
    assert served(pool, lease, 0.1, 4) == [texts[1], texts[3], texts[0], texts[2]]


def test_nobody_is_overtaken_by_who_comes_much_later() -> None:
    """However short; a long text waits for those who come soon after it."""
    pool = speech_pool(make_endpoint())
    lease = take(pool)
    long, soon, late = text(900), text(10), text(11)
    queue(pool, long, now=0.0)
    queue(pool, soon, now=PATIENCE * OVERDUE_S / 2)
    queue(pool, late, now=PATIENCE * OVERDUE_S + 0.01)
    assert served(pool, lease, PATIENCE * OVERDUE_S + 0.02, 3) == [soon, long, late]


def test_every_fourth_slot_is_for_who_is_overdue() -> None:
    """The one that has waited longest; three of four are for shorter ones, though all have waited long."""
    pool = speech_pool(make_endpoint(), limit=20)
    lease = take(pool)
    long, longer = text(900), text(1200)
    queue(pool, longer, now=0.0)
    queue(pool, long, now=0.1)
    shorts = [text(number) for number in range(10, 16)]
    queue(pool, *shorts, now=OVERDUE_S)
    assert served(pool, lease, OVERDUE_S + 0.2, 8) == [*shorts[:3], longer, *shorts[3:], long]


def test_a_class_shifts_its_callers_place() -> None:
    """By length, but as if interactive ones had come sooner and bulk ones later."""
    pool = speech_pool(make_endpoint(), limit=20)
    lease = take(pool)
    bulk, standard, soon = (text(100, priority=priority) for priority in reversed(Priority))
    endless, short = text(9000, priority=Priority.INTERACTIVE), text(10)
    queue(pool, bulk, endless, standard, short, soon)
    assert served(pool, lease, 0.1, 5) == [soon, short, standard, endless, bulk]


def test_a_listener_who_would_hear_silence_is_served_first() -> None:
    """Before all others; other parts of texts wait among the rest, by the time when they must begin."""
    pool = speech_pool(make_endpoint())
    lease = take(pool)
    urgent, spare, short, long = text(100, due=1.7), text(100, due=3.5), text(30), text(1200)
    queue(pool, long, now=0.5)
    queue(pool, spare, short, urgent, now=1.5)
    assert served(pool, lease, 1.6, 4) == [urgent, short, spare, long]


def test_a_part_of_a_text_that_is_heard_is_never_refused() -> None:
    """However full the queue is, and whoever has most of it: its text was let in."""
    pool = speech_pool(make_endpoint(), limit=1)
    take(pool, text(3000))
    queue(pool, text(10))
    assert admit(pool, text(10)) is Refusal.QUEUE_FULL
    queue(pool, text(10, due=1.0))


def test_a_text_that_may_be_divided_waits_as_long_as_its_first_part() -> None:
    """In a pool that may divide it; in others it costs all of its length."""
    demand = text(1200, first=100.0)
    assert Speech(0.4, first_of).estimate_s(demand) > 1
    assert Speech(0.4, first_of, in_parts=True).estimate_s(demand) < 0.2
    assert Speech(0.4, first_of, in_parts=True).estimate_s(text(1200)) > 1


def test_a_greedy_caller_waits_behind_the_others() -> None:
    """With more than its share of slots, it is served when nobody else waits."""
    endpoints = [make_endpoint(name) for name in "abcd"]
    pool = speech_pool(*endpoints, limit=20)
    leases = [take(pool, text(500, "greedy")) for _ in endpoints]
    queue(pool, *(text(10, "greedy") for _ in range(3)))
    queue(pool, text(800, "bob"))
    owners = [served(pool, lease, 0.1)[0] for lease in leases[:3]]
    # The first freed slot leaves the greedy with three of four, and its share is two.
    assert owners == [text(800, "bob"), text(10, "greedy"), text(10, "greedy")]


def greedy_pool(slots: int = 10, **more: float) -> tuple[Pool, list[Lease]]:
    """Make a pool in which a greedy caller has all slots but those that are left free for another one, seen lately."""
    pool = speech_pool(make_endpoint(slots=slots), limit=100, **more)  # type: ignore[arg-type]  # fields by name
    pool.release(take(pool, text(600, "bob")), Outcome.LEFT, 0.0)
    # Nobody is greedy by a single text: each is judged by those before it.
    leases = [take(pool, text(12_000, "greedy")) for _ in range(slots - max(1, slots // 5))]
    return pool, leases


def test_a_greedy_caller_leaves_slots_free_for_the_others() -> None:
    """Whoever else comes takes one of the last at once, and it is not handed on to it."""
    pool, leases = greedy_pool()
    queue(pool, text(10, "greedy"), now=0.1)
    assert pool.inflight == 8
    bobs = [take(pool, text(10, "bob"), 0.1) for _ in range(2)]
    assert pool.release(leases.pop(), Outcome.LEFT, 0.2) == []
    assert pool.release(bobs.pop(), Outcome.LEFT, 0.2) == []
    assert served(pool, bobs.pop(), 0.2) == [text(10, "greedy")]


def test_what_is_heard_already_is_always_let_on() -> None:
    """A part of a greedy caller's text takes the last slots."""
    pool, _ = greedy_pool()
    take(pool, text(100, "greedy", due=1.0), 0.1)
    take(pool, text(100, "greedy", due=1.0), 0.1)


def test_a_greedy_caller_is_served_after_all_others() -> None:
    """However long it has waited."""
    pool, leases = greedy_pool(slots=4)
    queue(pool, text(10, "greedy"), now=0.1)
    take(pool, text(800, "bob"), 0.2)
    queue(pool, text(900, "bob"), now=5.0)
    assert served(pool, leases.pop(), 5.1) == [text(900, "bob")]
    assert served(pool, leases.pop(), 5.2) == [text(10, "greedy")]


def test_a_greedy_caller_is_told_how_long_it_would_wait() -> None:
    """By the slots that are left to it, and behind all others."""
    pool, _ = greedy_pool(timeout_s=60.0)
    for _ in range(9):
        pool.admit("bob", 0.0, demand=text(1200, "bob"))
    assert admit(pool, text(10, "greedy", deadline=12.0)) is Refusal.TOO_LATE
    queue(pool, text(10, "bob", deadline=12.0))


def test_a_greedy_caller_gets_all_slots_once_nobody_else_has_asked_for_long() -> None:
    """And is sent away like others when no endpoint is left."""
    pool, leases = greedy_pool()
    queue(pool, text(10, "greedy"), text(20, "greedy"), now=0.1)
    events = pool.release(leases.pop(), Outcome.LEFT, 100.0)
    assert len(events) == 2
    assert pool.inflight == 9
    pool, _ = greedy_pool()
    queue(pool, text(10, "greedy"), now=0.1)
    (event,) = pool.enable(pool.endpoints[0], 0.2, enabled=False)
    assert isinstance(event, Displaced)


def test_nobody_gets_more_than_half_the_queue() -> None:
    """While others have asked in the last seconds; alone, all of it."""
    pool = speech_pool(make_endpoint(), limit=4, timeout_s=100.0)
    take(pool, text(10, "greedy"))
    queue(pool, *(text(10, "greedy") for _ in range(4)))
    assert admit(pool, text(10, "greedy")) is Refusal.QUEUE_FULL
    pool = speech_pool(make_endpoint(), limit=4, timeout_s=100.0)
    take(pool, text(10, "bob"))
    queue(pool, *(text(10, "greedy") for _ in range(2)), now=1.0)
    assert admit(pool, text(10, "greedy"), 1.0) is Refusal.QUEUE_FULL
    queue(pool, text(10, "greedy"), now=1.1 + FADE_S)


def test_a_deadline_out_of_reach_is_refused_at_once() -> None:
    """A wait that is expected to be longer than the caller's deadline allows helps nobody."""
    pool = speech_pool(make_endpoint(slots=2), timeout_s=10.0)
    for _ in range(2):
        take(pool, text(6000))
    # Two of about five seconds are running on two slots.
    assert admit(pool, text(10, deadline=3.0)) is Refusal.TOO_LATE
    queue(pool, text(10, deadline=6.0))
    queue(pool, text(10, deadline=6.5), now=3.5)
    assert len(pool.tick(5.9)) == 0
    assert len(pool.tick(6.5)) == 2


def test_a_longer_text_does_not_count_for_a_shorter_ones_wait() -> None:
    """Only what goes before it does."""
    pool = speech_pool(make_endpoint(), timeout_s=100.0)
    take(pool, text(12))
    queue(pool, text(12_000))
    queue(pool, text(12, deadline=1.0))
    assert admit(pool, text(13_000, deadline=5.0)) is Refusal.TOO_LATE


def test_another_tier_serves_whom_the_first_would_keep_waiting() -> None:
    """Though the first is ready."""
    first, second = speech_pool(make_endpoint("a")), speech_pool(make_endpoint("b"))
    tiers = Tiers([first, second])
    take(first, text(12_000))
    lease = tiers.admit("me", 0.0, demand=text(10, deadline=2.0))
    assert isinstance(lease, Lease)
    assert lease.pool is second
    assert tiers.admit("me", 0.0, demand=text(9000, deadline=0.001)) is Refusal.TOO_LATE


def test_the_least_remaining_work_is_chosen() -> None:
    """Not the fewest leases: one long text is more than two short ones."""
    a, b = make_endpoint("a", slots=3), make_endpoint("b", slots=3)
    pool = speech_pool(a, b)
    assert take(pool, text(1200)).endpoint is a
    assert [take(pool, text(600)).endpoint for _ in range(3)] == [b, b, a]


def test_work_that_lasts_longer_than_expected_counts_for_nothing_more() -> None:
    """An estimate that was wrong must not make an endpoint look better than idle."""
    a, b = make_endpoint("a", slots=3), make_endpoint("b", slots=3)
    pool = speech_pool(a, b)
    take(pool, text(100))
    assert take(pool, text(100), 60.0).endpoint is a


def test_a_late_first_audio_is_avoided_for_a_while() -> None:
    """A peak is believed at once and fades slowly."""
    a, b = make_endpoint("a", slots=3), make_endpoint("b", slots=3)
    pool = speech_pool(a, b)
    lease = take(pool, text(10))
    assert lease.endpoint is a
    pool.spoke(lease, 2.0)
    pool.release(lease, Outcome.SUCCEEDED, 2.1)
    assert take(pool, text(10), 2.2).endpoint is b
    again = take(pool, text(10), 2.3)
    assert again.endpoint is b, "two short texts there are still sooner"
    for at in range(3, 60):
        lease = a_lease(pool, a, b, float(at))
        pool.spoke(lease, at + 0.01)
        pool.release(lease, Outcome.SUCCEEDED, at + 0.1)
    pool.release(again, Outcome.SUCCEEDED, 61.0)
    assert take(pool, text(600), 120.0).endpoint is b, "which has never been late"
    assert take(pool, text(10), 120.0).endpoint is a, "which is no longer"


def test_a_late_first_audio_is_forgiven_though_nobody_asks_again() -> None:
    """It fades by time alone: an endpoint that is avoided has no chance to do better."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = speech_pool(a, b)
    lease = take(pool, text(10))
    assert lease.endpoint is a
    pool.spoke(lease, 3.0)
    pool.release(lease, Outcome.SUCCEEDED, 3.1)
    chosen = []
    for at in range(4, 100):
        lease = take(pool, text(10), float(at))
        chosen.append(lease.endpoint)
        pool.spoke(lease, at + 0.1)
        pool.release(lease, Outcome.SUCCEEDED, at + 0.2)
    assert chosen[0] is b
    assert a in chosen


def test_what_has_ended_is_forgotten_at_rest() -> None:
    """Requests that come one after the other leave nothing behind."""
    pool = speech_pool(make_endpoint("a"))
    before = _leases()
    for at in range(1000):
        pool.release(take(pool, text(10), at / 1000), Outcome.LEFT, at / 1000)
    assert _leases() <= before + 1


def _leases() -> int:
    return sum(isinstance(one, Lease) for one in gc.get_objects())


def a_lease(pool: Pool, wanted: Endpoint, other: Endpoint, now: float) -> Lease:
    """Take a slot of one endpoint."""
    lease = pool.admit("me", now, frozenset({other}), text(10))
    assert isinstance(lease, Lease)
    assert lease.endpoint is wanted
    return lease


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.REFUSED])
def test_a_fast_failure_does_not_look_attractive(outcome: Outcome) -> None:
    """An endpoint that failed lately counts as if it had work to do."""
    speech = Speech(OVERDUE_S, first_of)
    a, b = make_endpoint("a", slots=3), make_endpoint("b", slots=3)
    pool = speech_pool(a, b)
    lease = Lease(pool, a, text(10), 0.0)
    speech.leased(lease)
    speech.released(lease, outcome, 0.001)
    assert speech.choose([a, b], UNKNOWN, 0.002) is b
    busy = Lease(pool, b, text(600), 100.0)
    speech.leased(busy)
    assert speech.choose([a, b], UNKNOWN, 100.0) is a


def test_what_a_slow_reader_took_says_nothing_of_the_engine() -> None:
    """Nor does one who left."""
    pool = speech_pool(make_endpoint(slots=1))
    before = take(pool, text(1000)).estimate_s
    pool = speech_pool(make_endpoint(slots=1))
    for held_back, outcome in ((True, Outcome.SUCCEEDED), (False, Outcome.LEFT)):
        for at in range(20):
            lease = take(pool, text(1000), float(at * 100))
            lease.held_back = held_back
            pool.release(lease, outcome, at * 100 + 50.0)
    lease = take(pool, text(1000), 5000.0)
    assert lease.estimate_s == before
    pool.release(lease, Outcome.SUCCEEDED, 5050.0)
    assert take(pool, text(1000), 5100.0).estimate_s > before


def test_a_removed_endpoint_is_forgotten() -> None:
    """What comes back under its name is new."""
    a = make_endpoint("a")
    pool = speech_pool(a)
    before = take(pool, text(1000)).estimate_s
    pool = speech_pool(a)
    a.inflight = 0
    for at in range(20):
        pool.release(take(pool, text(1000), float(at)), Outcome.SUCCEEDED, at + 0.1)
    pool.remove(a, 30.0)
    pool.join(make_endpoint("a"))
    pool.observe(pool.endpoints[0], GOOD, 31.0)
    assert abs(take(pool, text(1000), 32.0).estimate_s - before) > 0.1, "the pool's own line stays"


TEXTS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.floats(1, 5000)), st.sampled_from("abc"), st.sampled_from(Priority), st.floats(0, 3)
    ),
    max_size=30,
)


@given(texts=TEXTS, slots=st.integers(1, 4), dice=st.randoms(use_true_random=False))
def test_slots_are_hard_and_nobody_is_lost(
    texts: list[tuple[float | None, str, Priority, float]], slots: int, dice: object
) -> None:
    """Each text is refused, or served once; a slot stays free only before who holds an equal share of them already."""
    pool = speech_pool(make_endpoint("a", slots=slots), make_endpoint("b", slots=slots), limit=6)
    fates: Counter[str] = Counter()
    running: list[Lease] = []
    now = 0.0

    def end_one() -> None:
        lease = running.pop(dice.randrange(len(running)))  # type: ignore[attr-defined]  # a Random
        for event in pool.release(lease, Outcome.SUCCEEDED, now):
            assert isinstance(event, Granted)
            running.append(event.lease)
            fates["served"] += 1

    for characters, caller, priority, pause_s in texts:
        now += pause_s
        admission = admit(pool, text(characters, caller, priority=priority), now)
        if isinstance(admission, Lease):
            running.append(admission)
            fates["served"] += 1
        elif isinstance(admission, Waiter):
            held = sum(lease.demand.caller == caller for lease in running)
            assert pool.inflight == 2 * slots or held >= 2 * slots / len("abc")
        else:
            fates["refused"] += 1
        assert pool.inflight == len(running) <= 2 * slots
        if running and pause_s > 1.5:
            end_one()
    while running:
        end_one()
    assert fates["served"] + fates["refused"] == len(texts)
    assert not pool.waiting


def spoken(pool: Pool, demand: Demand, at: float) -> Endpoint:
    """Have a text spoken to its end; return by whom."""
    one = take(pool, demand, at)
    pool.release(one, Outcome.SUCCEEDED, at + 0.05)
    return one.endpoint


def test_a_voice_is_best_spoken_where_it_is_warm() -> None:
    """Unless there is more work before it there."""
    a, b = make_endpoint("a", slots=2), make_endpoint("b", slots=2)
    pool = speech_pool(a, b)
    assert spoken(pool, text(30, voice="nova"), 0.0) is a
    assert spoken(pool, text(30, voice="ash"), 0.1) is a
    assert take(pool, text(900, voice="nova"), 0.2).endpoint is a
    assert take(pool, text(30, voice="nova"), 0.2).endpoint is b


def test_texts_of_one_affinity_stay_together() -> None:
    """With whoever spoke the last one, as long as it is no busier than others."""
    a, b = make_endpoint("a", slots=3), make_endpoint("b", slots=3)
    pool = speech_pool(a, b)
    for endpoint in (a, b):
        other = {a: b, b: a}[endpoint]
        lease = pool.admit(None, 0.0, frozenset({other}), text(30))
        assert isinstance(lease, Lease)
        pool.release(lease, Outcome.SUCCEEDED, 0.05)
    first = pool.admit(None, 1.0, frozenset({a}), text(30, affinity="call-7"))
    assert isinstance(first, Lease)
    pool.release(first, Outcome.SUCCEEDED, 1.05)
    assert spoken(pool, text(30), 2.0) is a
    assert spoken(pool, text(30, affinity="call-7"), 3.0) is b
    take(pool, text(1200, affinity="call-7"), 4.0)
    assert take(pool, text(30, affinity="call-7"), 4.0).endpoint is a


def test_voices_and_affinities_are_bounded() -> None:
    """Whoever makes them up."""
    a = make_endpoint("a", slots=2)
    pool = speech_pool(a)
    for number in range(AFFINITIES + 5):
        spoken(pool, text(10, voice=f"voice-{number}", affinity=f"call-{number}"), number * 0.1)
    assert len(pool._speech._near) == AFFINITIES  # type: ignore[union-attr]  # noqa: SLF001 - memory has no other door
    assert len(pool._speech._loads[a].voices) <= VOICES  # type: ignore[union-attr]  # noqa: SLF001


def test_an_endpoint_that_has_left_leaves_nothing_behind() -> None:
    """Also when its last lease ends afterwards."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = speech_pool(a, b)
    last = take(pool, text(30, affinity="call-7"))
    pool.remove(last.endpoint, 0.0)
    pool.release(last, Outcome.SUCCEEDED, 1.0)
    assert last.endpoint not in pool._speech._loads  # type: ignore[union-attr]  # noqa: SLF001
    assert pool.inflight == 0
    take(pool, text(30, affinity="call-7"), 2.0)


def hedgeable(*endpoints: Endpoint) -> Pool:
    """Make a pool whose second attempts are within its budget, and which knows how long first audio takes."""
    pool = speech_pool(*endpoints)
    pool.budget.fade(0.0)
    pool.budget.requests += 100
    for number in range(40):
        lease = take(pool, text(30), number * 0.01)
        pool.spoke(lease, lease.since + 0.05)
        pool.release(lease, Outcome.SUCCEEDED, lease.since + 0.1)
    return pool


def test_a_late_first_byte_is_hedged_where_somebody_is_idle() -> None:
    """Late is later than usual, and nobody is asked who has other work."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = hedgeable(a, b)
    lease = take(pool, text(30), 1.0)
    assert not pool.may_hedge(lease, 1.09), "nobody is hedged so soon"
    assert pool.may_hedge(lease, 1.3)
    other = take(pool, text(30), 1.3)
    assert not pool.may_hedge(lease, 1.4), "nobody is idle"
    queue(pool, text(30), now=1.4)
    pool.release(other, Outcome.LEFT, 1.4)
    assert not pool.may_hedge(lease, 1.5)


def test_nobody_is_asked_twice() -> None:
    """One that has failed the same request before is idle, and no help."""
    a, b, c = make_endpoint("a"), make_endpoint("b"), make_endpoint("c")
    pool = hedgeable(a, b, c)
    lease = take(pool, text(30), 1.0)
    tried, fresh = (one for one in (a, b, c) if one is not lease.endpoint)
    assert pool.may_hedge(lease, 2.0, frozenset({tried}))
    pool.enable(fresh, 2.0, enabled=False)
    assert not pool.may_hedge(lease, 2.0, frozenset({tried}))
    assert pool.may_hedge(lease, 2.0)


def test_nobody_is_hedged_while_others_wait() -> None:
    """Those who have tried everybody who is idle, for one."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = hedgeable(a, b)
    lease = take(pool, text(30), 1.0)
    waiter = pool.admit(None, 1.0, frozenset({next(one for one in (a, b) if not one.inflight)}), text(30))
    assert isinstance(waiter, Waiter)
    assert not pool.may_hedge(lease, 2.0)
    pool.leave(waiter)
    assert pool.may_hedge(lease, 2.0)


@pytest.mark.parametrize("others", [False, True])
def test_a_slot_that_is_left_free_by_a_greedy_caller_is_not_for_its_second_attempts(*, others: bool) -> None:
    """If there are others for whom it is."""
    many, one = make_endpoint("a", slots=9), make_endpoint("b", slots=1)
    pool = speech_pool(many, one)
    pool.budget.fade(0.0)
    pool.budget.requests += 100
    pool.enable(one, 0.0, enabled=False)
    if others:
        pool.release(take(pool, text(600, "bob")), Outcome.LEFT, 0.0)
    for _ in range(7):
        take(pool, text(12_000, "greedy"))
    lease = take(pool, text(10, "greedy"))
    pool.enable(one, 0.0, enabled=True)
    assert pool.may_hedge(lease, 0.5) is not others


def test_one_of_twenty_is_hedged_at_most() -> None:
    """Of about the last ten seconds."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = hedgeable(a, b)
    lease = take(pool, text(30), 1.0)
    allowed = sum(pool.may_hedge(lease, 2.0) for _ in range(100))
    assert 4 <= allowed <= 8


def test_what_is_usual_is_learned() -> None:
    """Where first audio is often ten times late, ten times is not late."""
    a, b = make_endpoint("a"), make_endpoint("b")
    pool = hedgeable(a, b)
    for number in range(300):
        lease = take(pool, text(None if number % 7 == 0 else 30), 2.0 + number)
        pool.spoke(lease, lease.since + (1.0 if number % 4 == 0 else 0.05))
        pool.release(lease, Outcome.SUCCEEDED, lease.since + 1.0)
    pool.budget.requests += 100
    lease = take(pool, text(30), 400.0)
    assert not pool.may_hedge(lease, 400.6)
    unreadable = take(pool, UNKNOWN, 401.0)
    pool.release(lease, Outcome.LEFT, 401.0)
    assert not pool.may_hedge(unreadable, 401.5)
    pool.tick(430.0)
    pool.budget.requests += 100
    assert pool.may_hedge(unreadable, 430.0)


def test_only_pools_whose_requests_may_be_repeated_hedge() -> None:
    """And only speech knows what is late."""
    settings = PoolSettings(endpoints=("set:1",), kind="speech", repeatable=True)
    assert Pool("p", settings, (), first_of, float).hedges
    assert not speech_pool().hedges
    generic = Pool("p", PoolSettings(endpoints=("set:1",), repeatable=True), (make_endpoint(),), first_of, float)
    assert not generic.hedges
