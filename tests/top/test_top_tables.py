"""What stands on the screen: states in words, and what is wrong first of all."""

import pytest
from program_told import Told, endpoint, gateway, pool, port, program, times, worker
from rich.text import Text

from sovren_edge.cli.described import Snapshot
from sovren_edge.cli.top import tables
from sovren_edge.cli.top.history import History, Look
from sovren_edge.cli.top.lines import Table


def look(*told: Told) -> Look:
    """Look at several states, a second apart."""
    history = History()
    for number, one in enumerate(told):
        shown = history.take(Snapshot.model_validate(one), float(number))
    return shown


def words(table: Table) -> list[list[str]]:
    """Return what stands in each row."""
    return [[cell.plain.strip() for cell in row.cells] for row in table.rows]


def test_the_headline_says_which_program_this_is() -> None:
    """And whether workers of an older generation still drain."""
    assert tables.headline(look(program(node=None))).plain == "sovren-edge 0.1.0  08:00:00 UTC"
    told = tables.headline(look(program(generation=3, retiring=2))).plain
    assert told == "sovren-edge 0.1.0  node g367  08:00:00 UTC  generation 3  2 older still drain"


def test_workers() -> None:
    """What a worker has not told yet is not zero."""
    telling = worker(cpu_s=1.75, loop_lag_max_s=0.98, loop_lag_p99_s=0.02, restarts=1)
    failed = {"name": "handlers", "pid": None, "state": "failed", "since": None, "restarts": 5}
    shown = tables.workers(look(program(workers=[worker(), failed]), program(workers=[telling, failed])))
    assert words(shown) == [
        ["balance", "serving", "20 ms", "980 ms", "25%", "84M", "45", "1", "1m00", "4711"],
        ["handlers", "failed", "-", "-", "-", "-", "-", "5", "-", "-"],
    ]
    assert [shown.rows[0].cells[at].style for at in (2, 3)] == ["yellow", "bold red"]
    # It stands out also where there are no colours.
    assert "reverse" in str(shown.rows[1].cells[1].style)


def test_ports() -> None:
    """One whose worker has failed is closed."""
    now = [
        port(requests=1210, errors=3),
        port(8097, "monitoring", ready=False),
        port(8300, "api-gateway", worker="gateway"),
    ]
    workers = [worker(), worker("gateway", state="failed")]
    shown = tables.ports(look(program(), program(ports=now, workers=workers)))
    assert words(shown) == [
        ["8200 tts-master", "balance", "balance", "ready", "3", "6.0", "1.0", "1.2k"],
        ["8097 monitoring", "balance", "balance", "unready", "3", "-", "-", "1.2k"],
        ["8300 api-gateway", "balance", "gateway", "closed", "3", "-", "-", "1.2k"],
    ]
    assert shown.rows[0].cells[6].style == "red"


def test_pools_and_their_endpoints() -> None:
    """Who waits, who serves, and how soon callers hear something."""

    def told(sent: int) -> Told:
        one = endpoint("tts-01", sent=sent, failed=sent // 2, inflight=2, ttfa=times(sent, sent * 0.2))
        other = endpoint("tts-02", ready=False)
        queue = {"length": 3, "limit": 256, "wait_p95_s": 0.1}
        return program(pools=[pool(one, other, ttfa=times(sent, sent * 0.3), queue=queue)])

    shown = tables.pools(look(told(0), told(2)))
    assert words(shown) == [
        ["tts", "1 of 2", "██░░", "2/4", "3", "2.0", "1.0", "300 ms"],
        ["tts-01", "ready", "██", "2/2", "", "2.0", "1.0", "200 ms"],
        ["tts-02", "unhealthy", "░░", "0/2", "", "0", "0", "-"],
    ]
    assert [row.endpoint for row in shown.rows] == [None, "tts-01", "tts-02"]
    assert [row.trail for row in shown.rows] == [pytest.approx((0.3,)), pytest.approx((0.2,)), (None,)]
    # Endpoints have one scale.
    assert shown.rows[1].top == shown.rows[2].top == pytest.approx(0.2)


def test_what_was_last_known_stays_in_sight() -> None:
    """But is fainter than what is new."""

    def told(count: int) -> Told:
        return program(pools=[pool(endpoint(ttfa=times(count, count * 0.2)))])

    assert latest(look(told(0), told(1))) == ("200 ms", "")
    assert latest(look(told(0), told(1), told(1))) == ("200 ms", "dim")
    assert latest(look(told(0))) == ("-", "dim")


def latest(look: Look) -> tuple[str, str]:
    """Return how soon an endpoint answered, and how that looks."""
    cell = tables.pools(look).rows[1].cells[-1]
    return cell.plain, str(cell.style)


def test_a_pool_that_is_absent_here_is_one_line() -> None:
    """Nothing of it can be changed or watched."""
    shown = tables.pools(look(program(pools=[pool(endpoint(absent=True))])))
    assert words(shown) == [["tts", "absent", "", "", "", "", "", ""]]


@pytest.mark.parametrize(
    ("others", "state"),
    [
        ({}, "ready"),
        ({"ready": False}, "unhealthy"),
        ({"ready": False, "ejected": True}, "ejected"),
        ({"ready": False, "enabled": False}, "drained"),
        ({"ready": False, "enabled": False, "inflight": 1}, "draining"),
        ({"ready": False, "leaving": True, "inflight": 1}, "draining"),
        ({"ready": False, "absent": True}, "absent"),
    ],
)
def test_states_of_endpoints(others: Told, state: str) -> None:
    """One word for each."""
    shown = tables.pools(look(program(pools=[pool(endpoint(**others), endpoint("tts-02"))])))
    assert words(shown)[1][1] == state


@pytest.mark.parametrize(
    ("ready", "style"),
    [
        ((True, True), "green"),
        ((True, False), "yellow"),
        ((False, False), "bold red reverse"),
        ((), "bold red reverse"),  # DNS has named none yet
    ],
)
def test_how_many_of_a_pool_are_ready(ready: tuple[bool, ...], style: str) -> None:
    """All, some, or none."""
    endpoints = [endpoint(f"tts-{number}", ready=one) for number, one in enumerate(ready)]
    cell = tables.pools(look(program(pools=[pool(*endpoints)]))).rows[0].cells[1]
    assert (cell.plain, cell.style) == (f"{sum(ready)} of {len(ready)}", style)


@pytest.mark.parametrize(("length", "style"), [(0, "dim"), (3, "yellow"), (256, "red")])
def test_how_many_wait(length: int, style: str) -> None:
    """Nobody, some, or as many as may."""
    queue = {"length": length, "limit": 256, "wait_p95_s": None}
    cell = tables.pools(look(program(pools=[pool(endpoint(), queue=queue)]))).rows[0].cells[4]
    assert (cell.plain, cell.style) == (str(length), style)


def test_the_gateway() -> None:
    """Nothing where there is none; what keeps it from its work stands out."""
    assert not tables.gateway(look(program()))
    well = tables.gateway(look(program(gateway=gateway()), program(gateway=gateway())))
    assert well.plain == "gateway  seeded, 12 subscribers, 340 grants, 3 open, 0 allowed/s, 0 refused/s"
    then = gateway(limiter={"seeded": False}, ledger={"journaling": True, "journal_bytes": 2_000_000})
    ill = tables.gateway(look(program(gateway=gateway()), program(gateway={**then, "requests": {"refused": 18}})))
    assert "not seeded: nobody is let through" in styled(ill, "red")
    # What is kept in Redis is not counted here.
    assert "subscribers" not in ill.plain
    assert "1.0 refused/s" in styled(ill, "yellow")
    assert "1.9M in the journal, since PostgreSQL is away" in styled(ill, "yellow")


def styled(text: Text, style: str) -> list[str]:
    """Return the words of one style."""
    return [text.plain[span.start : span.end] for span in text.spans if span.style == style]


def test_another_program_may_tell_less_and_more() -> None:
    """A command is not always of the same version as what it watches."""
    seen = look({"workers": [{"name": "w", "state": "dozing", "new": 1}], "pools": [{"name": "p"}], "x": None})
    assert [len(table.rows) for table in tables.every(seen).values()] == [1, 0, 1]
    assert words(tables.workers(seen))[0][1] == "dozing"
