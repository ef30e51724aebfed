"""Two generations of one pool under any sequence of events, and a link that delays, and ends at any point."""

from collections import Counter, deque
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pools.admission import Event, Expired, Granted, Lease, Outcome, Refusal, Waiter
from pools.demand import Demand, Priority
from pools.endpoint import Endpoint
from pools.health import ProbeResult
from pools.lender import Borrower, Lender
from pools.pool import NOBODY, Pool
from pools.retired import AWAY_S, Retired
from pools.settings import PoolSettings, QueueSettings
from tests.pools.building import BAD, GOOD, REFUSED, first_of

HOSTS = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::4")
TIMEOUT_S = 50.0


class Side:
    """One process's pool, its leases, and who waits there."""

    def __init__(self, kind: Literal["speech", "generic"], slots: dict[str, int]) -> None:
        limits = QueueSettings(limit=4, timeout_s=TIMEOUT_S)
        made = PoolSettings(kind=kind, queue=limits, endpoints=("set:1",))
        # Names differ between configurations.
        endpoints = [Endpoint(f"{len(slots)}-{host}", host, 1, count) for host, count in slots.items()]
        self.pool = Pool("pool", made, endpoints, first_of, float)
        for endpoint in endpoints:
            self.pool.observe(endpoint, GOOD, 0.0)
        self.leases: list[Lease] = []
        self.fates: dict[Waiter, str] = {}

    @property
    def waiters(self) -> list[Waiter]:
        """Who waits."""
        return [waiter for waiter, fate in self.fates.items() if fate == "waits"]

    def endpoint(self, address: str) -> Endpoint | None:
        """Return the endpoint of an address."""
        return next((one for one in self.pool.endpoints if one.address.decode() == address), None)

    def own(self, endpoint: Endpoint) -> int:
        """Count leases that are not another process's."""
        return sum(lease.endpoint is endpoint for lease in self.leases)

    def admit(self, demand: Demand, tried: frozenset[Endpoint], now: float) -> None:
        """Ask for a slot."""
        admission = self.pool.admit(self, now, tried, demand)
        if isinstance(admission, Lease):
            self.take(admission)
        elif isinstance(admission, Waiter):
            self.fates[admission] = "waits"
        else:
            assert isinstance(admission, Refusal)

    def take(self, lease: Lease) -> None:
        """Note a lease."""
        assert lease.endpoint.inflight <= lease.endpoint.limit
        assert lease.endpoint.ready
        self.leases.append(lease)

    def act(self, events: Sequence[Event]) -> None:
        """Do as the relay would."""
        for event in events:
            owner = event.waiter.owner
            if not isinstance(owner, Borrower):
                assert self.fates[event.waiter] == "waits", "a waiter has one fate"
                self.fates[event.waiter] = type(event).__name__
                if isinstance(event, Granted):
                    self.take(event.lease)
            elif isinstance(event, Granted):
                assert event.lease.endpoint.inflight <= event.lease.endpoint.limit
                owner.granted(event.lease)
            else:
                assert not isinstance(event, Expired)
                owner.displaced()

    def end(self, lease: Lease, outcome: Outcome, now: float) -> None:
        """Release a lease."""
        self.leases.remove(lease)
        self.act(self.pool.release(lease, outcome, now))

    def leave(self, waiter: Waiter) -> None:
        """Give up waiting."""
        self.pool.leave(waiter)
        self.fates[waiter] = "left"


class HandoverMachine(RuleBasedStateMachine):
    """An old pool that drains, and new ones that follow; what is told arrives late, in order, or never."""

    kind: Literal["speech", "generic"] = "generic"

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.old = Side(self.kind, dict(zip(HOSTS[:3], (1, 2, 2), strict=True)))
        self.new: Side | None = None
        self.lender: Lender | None = None
        self.retired: Retired | None = None
        self.to_new: deque[bytes] = deque()
        self.to_old: deque[bytes] = deque()
        self.known = False

    @property
    def sides(self) -> list[Side]:
        """Those that live."""
        return [side for side in (self.old, self.new) if side is not None]

    # --- callers

    @rule(
        data=st.data(), new=st.booleans(), caller=st.sampled_from("abc"), due_s=st.sampled_from([None, None, -1.0, 3]),
        characters=st.sampled_from([None, 50.0, 900.0]), priority=st.sampled_from(Priority),
    )  # fmt: skip
    def admit(
        self, *, data: st.DataObject, new: bool, caller: str, characters: float | None, priority: Priority,
        due_s: float | None,
    ) -> None:  # fmt: skip
        """Ask one of the two for slots, now and then after an attempt; the new one only when it knows what is held."""
        side = self.new if new and self.known else self.old
        assert side is not None
        tried = data.draw(st.sampled_from([NOBODY, NOBODY, frozenset(side.pool.endpoints[:1])]))
        due = None if due_s is None else self.now + due_s
        demand = Demand(characters, "alloy", caller, priority, due=due, affinity=caller)
        for _ in range(data.draw(st.integers(1, 4))):
            side.admit(demand, tried, self.now)

    @rule(data=st.data(), new=st.booleans(), outcome=st.sampled_from(Outcome))
    def release(self, data: st.DataObject, outcome: Outcome, *, new: bool) -> None:
        """End a lease in any way."""
        side = self.new if new else self.old
        if side is not None and side.leases:
            side.end(data.draw(st.sampled_from(side.leases)), outcome, self.now)

    @rule(data=st.data(), new=st.booleans())
    def leave(self, data: st.DataObject, *, new: bool) -> None:
        """Give up waiting."""
        side = self.new if new else self.old
        if side is not None and side.waiters:
            side.leave(data.draw(st.sampled_from(side.waiters)))

    # --- endpoints and time

    @rule(data=st.data(), result=st.sampled_from([GOOD, GOOD, BAD, REFUSED]))
    def probe(self, data: st.DataObject, result: ProbeResult) -> None:
        """Find something about an endpoint, which the two may see differently."""
        side = data.draw(st.sampled_from(self.sides))
        endpoint = data.draw(st.sampled_from(side.pool.endpoints))
        for _ in range(3):
            side.act(side.pool.observe(endpoint, result, self.now)[1])

    @rule(seconds=st.sampled_from([0.1, AWAY_S, 31.0]))
    def pass_time(self, seconds: float) -> None:
        """Let time go by."""
        self.now += seconds
        for side in self.sides:
            side.act(side.pool.tick(self.now))

    @rule(data=st.data(), slots=st.integers(1, 3))
    def join(self, data: st.DataObject, slots: int) -> None:
        """Have one of them find another endpoint, of which the other one may hold slots."""
        side = data.draw(st.sampled_from(self.sides))
        hosts = [host for host in HOSTS if host not in {one.host for one in side.pool.endpoints}]
        if hosts and (side is self.old or self.known):
            host = data.draw(st.sampled_from(hosts))
            endpoint = Endpoint(f"found-{host}", host, 1, slots)
            side.pool.join(endpoint)
            side.act(side.pool.observe(endpoint, GOOD, self.now)[1])

    # --- the two

    @precondition(lambda self: self.new is None)
    @rule(slots=st.dictionaries(st.sampled_from(HOSTS), st.integers(1, 3), min_size=1))
    def follow(self, slots: dict[str, int]) -> None:
        """Begin a successor, whose configuration may be another; also after one has died."""
        self.new = Side(self.kind, slots)
        self.lender = Lender(self.new.pool, partial(self.tell, self.to_old))
        self.retired = Retired(self.old.pool, partial(self.tell, self.to_new))
        self.old.act(self.retired.begin(self.now))

    def tell(self, link: deque[bytes], note: str, **given: object) -> None:
        """Send a note, as JSON."""
        link.append(orjson.dumps([note, given]))

    @precondition(lambda self: self.to_new)
    @rule(most=st.integers(1, 8))
    def arrive_new(self, most: int) -> None:
        """Have the new one told something."""
        assert self.new is not None
        for _ in range(min(most, len(self.to_new))):
            note, given = orjson.loads(self.to_new.popleft())
            assert self.lender is not None
            take = {
                "held": self.lender.hold, "returned": self.lender.returned, "wanted": self.lender.wanted,
                "unwanted": self.lender.unwanted,
            }[note]  # fmt: skip
            self.new.act(take(given, self.now))
            self.known = True

    @precondition(lambda self: self.to_old)
    @rule(most=st.integers(1, 8))
    def arrive_old(self, most: int) -> None:
        """Have the old one told something."""
        for _ in range(min(most, len(self.to_old))):
            note, given = orjson.loads(self.to_old.popleft())
            assert self.retired is not None
            take = {"lent": self.retired.lent, "displaced": self.retired.displaced, "alone": self.retired.alone}[note]
            self.old.act(take(given, self.now))

    def arrive(self) -> None:
        """Have everything arrive."""
        for _ in range(1000):
            if self.to_new:
                self.arrive_new(len(self.to_new))
            elif self.to_old:
                self.arrive_old(len(self.to_old))
            else:
                return
        raise AssertionError("they never stop talking")

    @precondition(lambda self: self.new is not None)
    @rule()
    def die(self) -> None:
        """Have the new one die."""
        self.new = self.lender = None
        self.known = False
        # Whatever the old one tells goes nowhere.
        self.to_new, self.to_old = deque(), deque()

    @precondition(lambda self: self.known)
    @rule()
    def outlive(self) -> None:
        """Have the old one die, whatever it was doing; the new one is the old one of the next."""
        assert self.new is not None
        assert self.lender is not None
        self.new.act(self.lender.end(self.now))
        self.old = self.new
        assert not any(one.inflight - self.old.own(one) for one in self.old.pool.endpoints)
        assert self.old.pool.waiting == len(self.old.waiters)
        self.die()

    # --- what always holds

    def told(self, link: deque[bytes], wanted: str) -> Counter[str]:
        """Count notes that are on their way, by address."""
        notes: list[tuple[str, dict[str, Any]]] = [orjson.loads(note) for note in link]
        return Counter(given["address"] for note, given in notes if note == wanted)

    @invariant()
    def no_slot_is_in_two_hands(self) -> None:
        """Every slot that the old one may use is counted by the new one, and slots are hard over both."""
        for endpoint in self.old.pool.endpoints:
            assert endpoint.inflight == self.old.own(endpoint)
            assert endpoint.allotted is None or endpoint.inflight <= endpoint.limit
        if self.new is None or not self.known:
            return
        returned, lent = self.told(self.to_new, "returned"), self.told(self.to_old, "lent")
        for endpoint in self.new.pool.endpoints:
            address, own = endpoint.address.decode(), self.new.own(endpoint)
            other = self.old.endpoint(address)
            assert own <= endpoint.slots
            if endpoint.allotted is not None:
                assert not endpoint.inflight, "the old one's alone"
            elif other is None:
                assert endpoint.inflight == own
            else:
                assert endpoint.inflight - own == other.limit + returned[address] + lent[address]
                assert not own or own + other.inflight <= endpoint.slots

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        """When everything has been told, no waiter could use a slot that is free."""
        if self.to_new or self.to_old or self.kind == "speech":
            return
        for side in self.sides:
            for waiter in side.waiters:
                for endpoint in side.pool.endpoints:
                    assert endpoint in waiter.tried or not endpoint.ready or endpoint.free <= 0
                    other = None if self.new is None else self.new.endpoint(endpoint.address.decode())
                    if side is self.old and other is not None and endpoint.ready and endpoint not in waiter.tried:
                        assert not other.ready or other.free <= 0

    def teardown(self) -> None:
        """When all is well, everybody is served, and in the end the new one has every slot."""
        if self.new is None:
            self.follow(dict.fromkeys(HOSTS, 2))
        assert self.new is not None
        assert self.lender is not None
        for _ in range(2):
            for side in self.sides:
                for endpoint in side.pool.endpoints:
                    side.act(side.pool.observe(endpoint, GOOD, self.now)[1])
            self.arrive()
            self.pass_time(AWAY_S)
            self.arrive()
        waiting = {waiter: side for side in self.sides for waiter in side.waiters}
        self.end_all(self.sides)
        # Only for an endpoint that was the old one's alone somebody may wait still.
        self.new.act(self.lender.end(self.now))
        assert all(one.allotted is None for one in self.new.pool.endpoints)
        self.end_all([self.new])
        for waiter, side in waiting.items():
            assert side.fates[waiter] in {"Granted", "Displaced"}
        for side in self.sides:
            assert not side.waiters
            assert not side.pool.waiting
            assert not side.pool.inflight

    def end_all(self, sides: list[Side]) -> None:
        """End all leases, one after the other."""
        while any(side.leases for side in sides):
            for side in sides:
                if side.leases:
                    side.end(side.leases[0], Outcome.SUCCEEDED, self.now)
            self.arrive()
            self.now += 0.1
        self.nobody_waits_in_vain()


class SpeechMachine(HandoverMachine):
    """The same with texts."""

    kind = "speech"


TestHandover = HandoverMachine.TestCase
TestHandover.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSpeech = SpeechMachine.TestCase
TestSpeech.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
