"""Owns which rows and columns there are, and what stands in them.

What matters is told by words; colours repeat it. Pure. Must not know who asks for them, nor how wide they may be.
"""

from rich.text import Text

from sovren_edge.cli.described import Endpoint, Pool, Port, Worker
from sovren_edge.cli.top.figures import NOTHING, age, bar, clock, count, duration, highest, percent, rate, size
from sovren_edge.cli.top.history import Look
from sovren_edge.cli.top.lines import Column, Row, Table

BAR = 10
# A loop that is this late harms everything that it serves.
LATE_S, VERY_LATE_S = 0.01, 0.1
_FAILED = "bold red reverse"
_STATES = {
    "ready": "green", "serving": "green", "starting": "yellow", "retiring": "yellow", "draining": "yellow",
    "drained": "yellow", "unready": "red", "ejected": "red", "unhealthy": "red", "failed": _FAILED, "closed": _FAILED,
    "absent": "dim",
}  # fmt: skip
_WORKERS = (
    Column("worker"), Column("state"), Column("lag p99", right=True), Column("lag max", right=True),
    Column("cpu", right=True), Column("memory", right=True), Column("files", right=True),
    Column("restarts", right=True), Column("for", right=True), Column("pid", right=True),
)  # fmt: skip
_PORTS = (
    Column("port"), Column("kind"), Column("worker"), Column("state"), Column("open", right=True),
    Column("calls/s", right=True), Column("5xx/s", right=True), Column("calls", right=True),
)  # fmt: skip
_POOLS = (
    Column("pool"), Column("state"), Column("slots"), Column("used", right=True), Column("wait", right=True),
    Column("sent/s", right=True), Column("fail/s", right=True), Column("TTFA", right=True),
)  # fmt: skip


def every(look: Look) -> dict[str, Table]:
    """Return all of them by name, from top to bottom."""
    return {"workers": workers(look), "ports": ports(look), "pools": pools(look)}


def headline(look: Look) -> Text:
    """Say which program this is."""
    seen = look.seen
    said = Text.assemble(("sovren-edge", "bold"), f" {seen.version}")
    if seen.node is not None:
        said.append(f"  node {seen.node}")
    said.append(f"  {clock(seen.at)} UTC", "dim")
    if seen.generation > 1:
        said.append(f"  generation {seen.generation}")
    if seen.retiring:
        said.append(f"  {seen.retiring} older still drain", "yellow")
    return said


def workers(look: Look) -> Table:
    """Return the processes."""
    return Table(_WORKERS, tuple(_worker(look, worker) for worker in look.seen.workers))


def _worker(look: Look, worker: Worker) -> Row:
    lag, worst = worker.loop_lag_p99_s, worker.loop_lag_max_s
    cpu = look.per_s.get(("worker", worker.name, "cpu"))
    return Row(worker.name, (
        Text(worker.name), _state(worker.state), Text(duration(lag), _lateness(lag)),
        Text(duration(worst), _lateness(worst)), Text(percent(cpu)), Text(size(worker.rss_bytes)),
        Text(NOTHING if worker.descriptors is None else str(worker.descriptors)),
        Text(str(worker.restarts), "yellow" if worker.restarts else ""),
        Text(NOTHING if worker.since is None else age(look.seen.at - worker.since)),
        Text(NOTHING if worker.pid is None else str(worker.pid)),
    ))  # fmt: skip


def ports(look: Look) -> Table:
    """Return the listeners."""
    states = {worker.name: worker.state for worker in look.seen.workers}
    return Table(_PORTS, tuple(_port(look, port, states.get(port.worker, "")) for port in look.seen.ports))


def _port(look: Look, port: Port, worker: str) -> Row:
    calls, errors = (look.per_s.get(("port", port.worker, port.name, what)) for what in ("requests", "errors"))
    state = "closed" if worker == "failed" else "ready" if port.ready else "unready"
    return Row(f"{port.worker}/{port.name}", (
        Text(f"{port.port} {port.name}"), Text(port.kind, "dim"), Text(port.worker, "dim"), _state(state),
        _number(count(port.connections)), _number(rate(calls)), _number(rate(errors), bad=True),
        Text(count(port.requests)),
    ))  # fmt: skip


def pools(look: Look) -> Table:
    """Return the pools, each with its endpoints under it."""
    return Table(_POOLS, tuple(row for pool in look.seen.pools for row in _pool(look, pool)), trailing=True)


def _pool(look: Look, pool: Pool) -> list[Row]:
    if pool.endpoints and not pool.present:
        return [Row(pool.name, (Text(pool.name, "bold"), _state("absent"), *(Text() for _ in _POOLS[2:])))]
    trails = {endpoint.name: look.trails.get(("endpoint", pool.name, endpoint.name), ()) for endpoint in pool.endpoints}
    # Endpoints are compared with each other; what callers wait for has a scale of its own.
    top = highest(list(trails.values()))
    return [_whole(look, pool), *(_endpoint(look, pool, one, trails[one.name], top) for one in pool.endpoints)]


def _whole(look: Look, pool: Pool) -> Row:
    trail = look.trails.get(("pool", pool.name), ())
    slots, limit = sum(one.slots for one in pool.present), sum(one.limit for one in pool.present)
    waiting = pool.queue.length
    full = waiting >= pool.queue.limit
    return Row(pool.name, (
        Text(pool.name, "bold"), _readiness(pool), bar(pool.inflight, limit, slots, width=BAR),
        Text(f"{pool.inflight}/{slots}"), Text(count(waiting), "dim" if not waiting else "red" if full else "yellow"),
        *(_number(rate(_sum(look, pool, what)), bad=what == "failed") for what in ("sent", "failed")), _latest(trail),
    ), trail=trail, top=highest([trail]))  # fmt: skip


def _endpoint(look: Look, pool: Pool, endpoint: Endpoint, trail: tuple[float | None, ...], top: float) -> Row:
    sent, failed = (look.per_s.get(("endpoint", pool.name, endpoint.name, what)) for what in ("sent", "failed"))
    slots = bar(endpoint.inflight, endpoint.limit, endpoint.slots, width=BAR)
    used = Text(f"{endpoint.inflight}/{endpoint.slots}")
    return Row(f"{pool.name}/{endpoint.name}", (
        Text(f"  {endpoint.name}"), _state(endpoint.state), slots, used, Text(),
        _number(rate(sent)), _number(rate(failed), bad=True), _latest(trail),
    ), endpoint=endpoint.name, trail=trail, top=top)  # fmt: skip


def _sum(look: Look, pool: Pool, what: str) -> float | None:
    keys = [("endpoint", pool.name, endpoint.name, what) for endpoint in pool.endpoints]
    known = [look.per_s[key] for key in keys if key in look.per_s]
    return sum(known) if known else None


def gateway(look: Look) -> Text:
    """Say how the gateway is doing; nothing where there is none."""
    if look.seen.gateway is None:
        return Text()
    limiter, ledger = look.seen.gateway.limiter, look.seen.gateway.ledger
    allowed, refused = (look.per_s.get(("gateway", what)) for what in ("allowed", "refused"))
    known = ((limiter.subscribers, "subscribers"), (limiter.entries, "grants"), (limiter.inflight, "open"))
    said = [
        Text("seeded") if limiter.seeded else Text("not seeded: nobody is let through", "red"),
        *(Text(f"{count(number)} {what}") for number, what in known if number is not None),
        Text(f"{rate(allowed)} allowed/s"), Text(f"{rate(refused)} refused/s", "yellow" if refused else ""),
    ]  # fmt: skip
    if ledger.journaling:
        said.append(Text(f"{size(ledger.journal_bytes)} in the journal, since PostgreSQL is away", "yellow"))
    return Text.assemble(("gateway  ", "bold"), Text(", ").join(said))


def _state(state: str) -> Text:
    return Text(state, _STATES.get(state, ""))


def _readiness(pool: Pool) -> Text:
    ready, present = sum(endpoint.ready for endpoint in pool.present), len(pool.present)
    return Text(f"{ready} of {present}", _FAILED if not ready else "green" if ready == present else "yellow")


def _lateness(lag_s: float | None) -> str:
    if lag_s is None or lag_s < LATE_S:
        return ""
    return "yellow" if lag_s < VERY_LATE_S else "bold red"


def _number(text: str, *, bad: bool = False) -> Text:
    """Let the eye find what is not nothing."""
    return Text(text, "dim" if text in {"0", NOTHING} else "red" if bad else "")


def _latest(trail: tuple[float | None, ...]) -> Text:
    """Return the newest that is known."""
    newest = next((value for value in reversed(trail) if value is not None), None)
    return Text(duration(newest), "dim" if not trail or trail[-1] is None else "")
