"""Measure what a race of requests does not show: streams, added time, idle connections, endurance, neighbours.

Must not know how the race is run, nor how figures are shown. Every measurement starts what it needs and ends it.
"""

import contextlib
import json
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil
from evidence import get
from figure import Bench, Figure
from load import run_load
from models import PORTS, models_command
from processes import BenchError, cpu_seconds, pinned, wait_until
from proxies import EDGE, NGINX, PLAIN, Proxy, edge_proxy, find_program, installed_proxies

HERE = Path(__file__).parent
MB = 1_000_000
SPEECH_PORT = 19502


def python(script: str, *arguments: object) -> list[str]:
    """Return the command that runs a script beside this one."""
    return [sys.executable, str(HERE / script), *map(str, arguments)]


def call(bench: Bench, *arguments: object) -> dict[str, float]:
    """Run callers.py on the load's core; return what it saw."""
    with pinned(bench.load_core):
        ended = subprocess.run(
            python("callers.py", *arguments), capture_output=True, check=False, timeout=300, stdin=subprocess.DEVNULL
        )
    if ended.returncode:
        raise BenchError(f"callers.py failed: {ended.stderr.decode(errors='replace')[-300:]}")
    seen: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return seen


def ready(port: int) -> None:
    """Wait until a proxy relays."""
    if not wait_until(lambda: get(port, "/")[0] == 200, 20):
        raise BenchError(f"nobody relays on port {port}")


def serve(bench: Bench, stack: ExitStack, proxies: list[Proxy], *, streaming: bool) -> list[subprocess.Popen[bytes]]:
    """Start endpoints and proxies until the stack is closed; return the proxies' processes."""
    command = python("streamer.py", *PORTS) if streaming else models_command(find_program("nginx"), bench.work)
    stack.enter_context(bench.start("models", command))
    running = []
    for proxy in proxies:
        running.append(stack.enter_context(bench.start(f"m-{proxy.port}", proxy.command, proxy=True)))
        ready(proxy.port)
    return running


def chosen(bench: Bench, *names: str) -> list[Proxy]:
    """Return the installed proxies of these names, in this order."""
    found = {proxy.name: proxy for proxy in installed_proxies(bench.work)}
    return [found[name] for name in names if name in found]


def streams(bench: Bench) -> Iterator[Figure]:
    """Measure the CPU time per MB of answers in chunks of 16 KiB, 64 at once; then 2,000 slow streams."""
    proxies = chosen(bench, EDGE, PLAIN, NGINX)
    answers, rounds = (640, 1) if bench.quick else (3200, 3)
    costs: dict[str, list[float]] = {proxy.name: [] for proxy in proxies}
    rates: dict[str, list[float]] = {proxy.name: [] for proxy in proxies}
    with ExitStack() as stack:
        running = serve(bench, stack, proxies, streaming=True)
        for _ in range(rounds):
            for proxy, process in zip(proxies, running, strict=True):
                before = cpu_seconds(process)
                seen = call(bench, "streams", proxy.port, 64, answers, "/big")
                if seen["answers"] != answers or seen["received"] < answers * 64 * 16384:
                    raise BenchError(f"{proxy.name} passed on {seen}")
                costs[proxy.name].append((cpu_seconds(process) - before) * 1e6 / (answers * 1.048576))
                rates[proxy.name].append(answers / seen["seconds"])
        dropped = _slow_streams(bench, proxies[0].port)
    base = statistics.median(costs[PLAIN]) if PLAIN in costs else None
    for name, cost in costs.items():
        median = statistics.median(cost)
        ratio = "" if base is None else f", {median / base:.2f} x HAProxy"
        reached = f"{median:.0f} µs a MB{ratio}"
        note = f"{statistics.median(rates[name]):,.0f} answers a second"
        title = "1 MB in 16 KiB chunks, 64 at once"
        if name == EDGE and base is not None:
            yield Figure(title, name, reached, "at most 2 x HAProxy", median <= 2 * base, note)
        else:
            yield Figure(title, name, reached, note=note)
    yield dropped


def _slow_streams(bench: Bench, port: int) -> Figure:
    count = 200 if bench.quick else 2000
    seen = call(bench, "streams", port, count, count, "/slow")
    reached = f"{int(seen['answers']):,} whole, {int(seen['failed'])} broken"
    whole = seen["answers"] == count and seen["received"] >= count * 30 * 1024
    return Figure(f"{count:,} slow streams at once", EDGE, reached, "no drop", whole, f"{seen['seconds']:.1f} s in all")


def added(bench: Bench) -> Iterator[Figure]:
    """Measure what a proxy adds to the first byte when little is asked of it."""
    proxies = chosen(bench, EDGE, PLAIN)
    count = 500 if bench.quick else 5000
    with ExitStack() as stack, pinned(bench.load_core):
        serve(bench, stack, proxies, streaming=False)
        ports = [PORTS[0], *(proxy.port for proxy in proxies)]
        sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for port in ports]
        times: list[list[float]] = [[] for _ in ports]
        for _ in range(count):
            for connection, taken in zip(sockets, times, strict=True):
                taken.append(_first_byte_s(connection))
    direct = _percentiles_us(times[0])
    for proxy, taken in zip(proxies, times[1:], strict=True):
        p50, p99 = (mine - theirs for mine, theirs in zip(_percentiles_us(taken), direct, strict=True))
        mark = "p50 at most 100 µs, p99 at most 1 ms" if proxy.name == EDGE else ""
        met = p50 <= 100 and p99 <= 1000 if mark else None
        reached = f"p50 {p50:.0f} µs, p99 {p99:.0f} µs more"
        note = f"a direct call: {direct[0]:.0f} µs"
        yield Figure("added time to first byte", proxy.name, reached, mark, met, note)


def _first_byte_s(connection: socket.socket) -> float:
    began = time.perf_counter()
    connection.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
    connection.recv(4096)
    return time.perf_counter() - began


def _percentiles_us(times_s: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(times_s, n=100)
    return cuts[49] * 1e6, cuts[98] * 1e6


def idle(bench: Bench) -> Iterator[Figure]:
    """Measure the memory of idle connections, and what a request costs beside them."""
    count = 1000 if bench.quick else 10_000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        edge = chosen(bench, EDGE)
        (process,) = serve(bench, stack, edge, streaming=False)
        alone = [_cpu_us(bench, process, edge[0].port) for _ in range(3)]
        before = _rss_mb(process)
        with pinned(bench.load_core):
            holder = subprocess.Popen(
                python("callers.py", "idle", edge[0].port, count), stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        try:
            seen = json.loads(holder.stdout.readline() if holder.stdout else b"{}")
            after = _rss_mb(process)
            beside = [_cpu_us(bench, process, edge[0].port) for _ in range(3)]
        finally:
            holder.communicate(timeout=60)
    title = f"{count:,} idle connections"
    note = f"{int(seen['answers']):,} were served and kept; {before:.0f} MB without them"
    yield Figure(
        title, EDGE, f"{after:.0f} MB in all", "at most 150 MB", after <= 150 and seen["answers"] == count, note
    )
    ratio = statistics.median(beside) / statistics.median(alone)
    reached = f"{statistics.median(alone):.1f} µs alone, {statistics.median(beside):.1f} µs beside them ({ratio:.2f} x)"
    yield Figure("a request beside idle connections", EDGE, reached, "not more", ratio <= 1.1, "medians of three runs")


def _cpu_us(bench: Bench, process: subprocess.Popen[bytes], port: int, kind: str = "get") -> float:
    before = cpu_seconds(process)
    outcome = _wrk(bench, port, 1 if bench.quick else 3, kind)
    return (cpu_seconds(process) - before) * 1e6 / outcome


def _wrk(bench: Bench, port: int, seconds: int, kind: str = "get") -> int:
    with pinned(bench.load_core):
        outcome = run_load(find_program("wrk") or "wrk", kind, port, seconds)
    if outcome.not_2xx or outcome.socket_errors or not outcome.requests:
        raise BenchError(f"wrk saw {outcome}")
    return outcome.requests


def _rss_mb(process: subprocess.Popen[bytes]) -> float:
    return float(psutil.Process(process.pid).memory_info().rss) / MB


def endurance(bench: Bench) -> Iterator[Figure]:
    """Send a million requests; look at memory, cost and the garbage collector's pauses."""
    total = 50_000 if bench.quick else 1_000_000
    steps: list[tuple[int, float, float]] = []
    pauses = bench.work / "pauses"
    with ExitStack() as stack:
        proxy = edge_proxy(bench.work)
        command = (*python("gc_watch.py", pauses), *proxy.command[1:])
        stack.enter_context(bench.start("models", models_command(find_program("nginx"), bench.work)))
        process = stack.enter_context(bench.start("watched", command, proxy=True))
        ready(proxy.port)
        done = 0
        while done < total:
            before = cpu_seconds(process)
            requests = _wrk(bench, proxy.port, 2)
            done += requests
            steps.append((done, _rss_mb(process), (cpu_seconds(process) - before) * 1e6 / requests))
    longest_ms, collections = pauses.read_text().split()
    first = next(step for step in steps if step[0] >= total / 10)
    grown = steps[-1][1] - first[1]
    reached = f"{first[1]:.1f} MB after {first[0]:,}, {steps[-1][1]:.1f} MB after {done:,}"
    yield Figure("memory over a million requests", EDGE, reached, "flat", grown < 2, f"{grown:+.1f} MB")
    third = max(1, len(steps) // 3)
    early, late = (statistics.median(step[2] for step in part) for part in (steps[:third], steps[-third:]))
    reached = f"{early:.1f} µs in the first third, {late:.1f} µs in the last"
    yield Figure("cost over a million requests", EDGE, reached, "linear", late <= early * 1.15, "medians of 2 s runs")
    note = f"{collections} collections, timed inside the process"
    met = float(longest_ms) <= 5
    yield Figure("longest pause of the garbage collector", EDGE, f"{longest_ms} ms", "at most 5 ms", met, note)


NEIGHBOURS = (
    ("100 MB bodies", 100_000_000, "zeros"),
    ("deep JSON, 64 KiB", 65_536, "deep"),
    ("64 KiB of empty lines", 65_536, "lines"),
    ("refused heads of 32 KiB", 0, "heads"),
)


def neighbours(bench: Bench) -> Iterator[Figure]:
    """Measure small callers' p99 while others send what is large, deep or hostile."""
    seconds = 1 if bench.quick else 5
    with ExitStack() as stack:
        edge = chosen(bench, EDGE)
        serve(bench, stack, edge, streaming=True)
        port = edge[0].port
        alone = _paced_p99_us(bench, port, seconds, contextlib.nullcontext)
        for title, size, kind in NEIGHBOURS:
            others = python("callers.py", "posts", port, seconds + 1, size, kind)
            beside = _paced_p99_us(bench, port, seconds, partial(bench.start, "others", others))
            more = (beside - alone) / 1000
            reached = f"p99 {alone / 1000:.2f} ms alone, {beside / 1000:.2f} ms beside ({more:+.2f} ms)"
            note = "both on the load's one core" if bench.proxy_core != bench.load_core else "on one core"
            yield Figure(f"small callers beside {title}", EDGE, reached, "less than 1 ms more", more < 1, note)


def _paced_p99_us(
    bench: Bench, port: int, seconds: float, others: Callable[[], contextlib.AbstractContextManager[object]]
) -> float:
    """Ask once a millisecond; the load's core is far from full."""
    times: list[float] = []
    with others(), pinned(bench.load_core), socket.create_connection(("127.0.0.1", port)) as connection:
        time.sleep(0.3)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            times.append(_first_byte_s(connection))
            time.sleep(0.001)
    return _percentiles_us(times)[1]


def ceiling(bench: Bench) -> Iterator[Figure]:
    """Measure how much one worker can do on its core, beside HAProxy on all of them."""
    seconds, streams = (1, 640) if bench.quick else (5, 3200)
    for proxy in chosen(bench, EDGE, PLAIN):
        where = "one worker on one core" if proxy.name == EDGE else "two threads on both cores, beside the load"
        with ExitStack() as stack:
            _serve_widely(bench, stack, proxy, streaming=False)
            rate = _wrk(bench, proxy.port, seconds) / seconds
            yield Figure("ceiling, small GETs", proxy.name, f"{rate:,.0f} requests a second", note=where)
        with ExitStack() as stack:
            _serve_widely(bench, stack, proxy, streaming=True)
            rate = streams / call(bench, "streams", proxy.port, 64, streams, "/big")["seconds"]
            yield Figure("ceiling, streams of 1 MB", proxy.name, f"{rate:,.0f} streams a second", note=where)


def _serve_widely(bench: Bench, stack: ExitStack, proxy: Proxy, *, streaming: bool) -> None:
    """Start endpoints and a proxy: HAProxy on both cores, the edge on its own."""
    if proxy.name == EDGE:
        serve(bench, stack, [proxy], streaming=streaming)
        return
    wide = bench.work / "wide.cfg"
    wide.write_text((bench.work / "plain.cfg").read_text().replace("nbthread 1", "nbthread 2"))
    serve(bench, stack, [], streaming=streaming)
    process = stack.enter_context(bench.start("wide", (*proxy.command[:-1], str(wide))))
    psutil.Process(process.pid).cpu_affinity([bench.proxy_core, bench.load_core])
    ready(proxy.port)


def speech(bench: Bench) -> Iterator[Figure]:
    """Measure what a small request for speech costs, no two texts alike, beside HAProxy, which reads none of them."""
    edge, plain = chosen(bench, EDGE, PLAIN)
    rounds = 1 if bench.quick else 7
    with ExitStack() as stack:
        processes = serve(bench, stack, [edge, plain], streaming=False)
        ready(SPEECH_PORT)
        ratios = []
        for _ in range(rounds):
            mine = _cpu_us(bench, processes[0], SPEECH_PORT, "speech")
            ratios.append((mine / _cpu_us(bench, processes[1], plain.port, "speech"), mine))
    ratio, mine = statistics.median(ratios)
    reached = f"{mine:.1f} µs, {ratio:.2f} x {PLAIN}"
    yield Figure("CPU per small request for speech", EDGE, reached, f"at most 2.2 x {PLAIN}", ratio <= 2.2)


MEASURES: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "streams": streams,
    "added": added,
    "idle": idle,
    "endurance": endurance,
    "neighbours": neighbours,
    "ceiling": ceiling,
    "speech": speech,
}
