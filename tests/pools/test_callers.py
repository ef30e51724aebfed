"""Who asks for far more than others, and what is left to them."""

from pools.callers import FADE_S, MOST, STEP_S, Callers


def asked(**seconds: float) -> Callers:
    """Make callers who have asked for so many seconds at time 0."""
    callers = Callers()
    for name, amount in seconds.items():
        callers.ask(name, amount, 0.0)
    return callers


def test_who_is_alone_outdoes_nobody() -> None:
    """Nor does who was never seen."""
    callers = asked(ann=1000.0)
    assert not callers.outdoes("ann")
    assert not asked(ann=1.0, bob=1.0).outdoes("eve")


def test_far_more_than_the_others_do_on_average() -> None:
    """Is more than three times as much, however many they are."""
    assert asked(ann=3.1, bob=1.0).outdoes("ann")
    assert not asked(ann=2.9, bob=1.0).outdoes("ann")
    assert asked(ann=3.1, bob=0.5, eve=1.5).outdoes("ann")
    assert not asked(ann=3.1, bob=1.5, eve=1.5).outdoes("ann")


def test_more_than_an_equal_share_of_the_slots_can_do() -> None:
    """Of two callers and four slots, two slots' work of ten seconds."""
    assert asked(ann=2.1 * FADE_S, bob=1.0).exceeds("ann", 4)
    assert not asked(ann=1.9 * FADE_S, bob=1.0).exceeds("ann", 4)
    assert not asked(ann=0.9 * FADE_S, bob=1.0).exceeds("ann", 1), "a slot is the least share"


def test_what_the_others_leave() -> None:
    """What they need on average and twice its spread stays free; an equal share is the least."""
    assert asked(ann=1000.0, bob=0.0).most("ann", 10, 0.0) == 10
    assert asked(ann=1000.0, bob=1.0 * FADE_S).most("ann", 10, 0.0) == 7
    assert asked(ann=1000.0, bob=9.0 * FADE_S).most("ann", 10, 0.0) == 5
    assert asked(ann=1000.0, bob=8.0 * FADE_S, eve=1.0).most("ann", 10, 0.0) == 4
    assert asked(bob=8.0 * FADE_S, eve=1.0).most("ann", 10, 0.0) == 5
    assert asked(ann=1000.0).most("ann", 10, 0.0) == 10


def test_all_that_was_asked_for_fades_together() -> None:
    """Also over days, in which sums are scaled down, and nights."""
    callers, now = Callers(), 0.0
    for _ in range(2000):
        now += STEP_S
        callers.ask("ann", 4.0, now)
        callers.ask("bob", 1.0, now)
    assert callers.outdoes("ann")
    # Two seconds of work in each second.
    assert callers.most("ann", 10, now) == int(10 - 2 - 2 * 2**0.5)
    assert callers.most("ann", 10, now + FADE_S) == 7, "of three quarters of a slot"
    now += 1e6
    assert callers.most("ann", 10, now) == 10
    callers.ask("bob", 1.0, now)
    assert len(callers) == 1
    callers.ask("ann", 1.0, now)
    assert not callers.outdoes("ann")
    assert not callers.outdoes("bob")


def test_who_has_not_asked_for_long_is_forgotten() -> None:
    """After ten seconds; nobody else is."""
    callers = asked(ann=1.0, bob=1.0)
    callers.ask("ann", 1.0, FADE_S / 2)
    callers.ask("eve", 1.0, FADE_S)
    assert len(callers) == 3
    callers.ask("eve", 1.0, FADE_S + STEP_S)
    assert len(callers) == 2


def test_callers_that_are_remembered_are_bounded() -> None:
    """Whoever names himself anew with each request; and to ask after somebody remembers nobody."""
    callers = Callers()
    for number in range(MOST + 10):
        name = f"{number}"
        callers.ask(name, 1.0, 0.0)
        callers.leased(name)
        callers.leased(name)
        assert callers.inflight(name) == 2
        callers.released(name)
        callers.released(name)
    assert len(callers) == MOST
    assert callers.inflight("eve") == 0
    assert not callers.holding()
