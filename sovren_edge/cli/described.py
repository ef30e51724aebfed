"""Owns the shapes in which a running program describes itself: as much of them as is shown to people.

It may be older or newer than this command, so what is missing is nothing, and what is unknown is left out. Must not
know how it is asked, nor how anything is shown.
"""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, ValidationError

from sovren_edge.errors import StartupError


class _Described(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Times(_Described):
    """Durations since the start (seconds): how many, their sum, and under what 95 of 100 lie."""

    count: int = 0
    sum_s: float = 0.0
    p95: float | None = None

    def __add__(self, other: "Times") -> "Times":
        return Times(count=self.count + other.count, sum_s=self.sum_s + other.sum_s)


class Endpoint(_Described):
    """One endpoint; see relay.metrics."""

    name: str
    address: str = ""
    slots: int = 0
    limit: int = 0
    weight: float = 1.0
    inflight: int = 0
    absent: bool = False
    enabled: bool = True
    leaving: bool = False
    ready: bool = False
    ejected: bool = False
    attempts: Mapping[str, int] = {}
    ttfa_s: Times = Times()

    @property
    def state(self) -> str:
        """What it is about, in one word."""
        if self.absent:
            return "absent"
        if not self.enabled or self.leaving:
            return "draining" if self.inflight else "drained"
        if self.ejected:
            return "ejected"
        return "ready" if self.ready else "unhealthy"


class Queue(_Described):
    """Who waits for a slot."""

    length: int = 0
    limit: int = 0


class Speech(_Described):
    """What is only known of a pool of speech."""

    ttfa_s: Times = Times()


class Pool(_Described):
    """One pool, with its endpoints."""

    name: str
    inflight: int = 0
    queue: Queue = Queue()
    endpoints: tuple[Endpoint, ...] = ()
    speech: Speech | None = None

    @property
    def present(self) -> tuple[Endpoint, ...]:
        """The endpoints that are used from here."""
        return tuple(endpoint for endpoint in self.endpoints if not endpoint.absent)

    @property
    def ttfa_s(self) -> Times:
        """How soon callers hear something; where that is not known, how soon endpoints answer."""
        if self.speech is not None:
            return self.speech.ttfa_s
        return sum((endpoint.ttfa_s for endpoint in self.endpoints), Times())


class Worker(_Described):
    """One process of the tree; the loop's lag in seconds, `since` in Unix seconds."""

    name: str
    pid: int | None = None
    state: str = "unknown"
    since: float | None = None
    restarts: int = 0
    loop_lag_p99_s: float | None = None
    loop_lag_max_s: float | None = None
    rss_bytes: int | None = None
    descriptors: int | None = None
    cpu_s: float | None = None


class Port(_Described):
    """One listener, and what it has counted since its start; `errors` are answers of 500 and above."""

    name: str
    port: int
    kind: str = ""
    worker: str = ""
    ready: bool = False
    connections: int = 0
    requests: int = 0
    errors: int = 0


class Limiter(_Described):
    """What the gateway's limiter remembers; of one that is kept in Redis not everything is known here."""

    seeded: bool = False
    subscribers: int | None = None
    entries: int | None = None
    inflight: int | None = None


class Ledger(_Described):
    """Where the gateway's rows go."""

    journaling: bool = False
    journal_bytes: int = 0


class Decided(_Described):
    """Requests that the gateway let through, and those that it refused."""

    allowed: int = 0
    refused: int = 0


class Gateway(_Described):
    """The gateway as a whole."""

    limiter: Limiter = Limiter()
    ledger: Ledger = Ledger()
    requests: Decided = Decided()


class Snapshot(_Described):
    """The program at one moment (`at`, Unix seconds)."""

    version: str = ""
    node: str | None = None
    at: float = 0.0
    generation: int = 1
    retiring: int = 0
    workers: tuple[Worker, ...] = ()
    ports: tuple[Port, ...] = ()
    pools: tuple[Pool, ...] = ()
    gateway: Gateway | None = None


def read_snapshot(told: object) -> Snapshot:
    """Return what a program has told; StartupError if it makes no sense."""
    try:
        return Snapshot.model_validate(told)
    except ValidationError as error:
        places = ", ".join(".".join(map(str, fault["loc"])) for fault in error.errors())
        raise StartupError(f"what answers tells what this command does not know: {places}") from None
