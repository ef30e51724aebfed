"""Owns log lines: events through structlog, one access line per request, both written off the loop.

Must not know what happened; it only writes it. A full disk or a stuck terminal drops lines and counts them.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal, TypedDict, cast

import orjson
import structlog
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from structlog.typing import EventDict, FilteringBoundLogger

from sovren_edge.observe.log_file import LogFile, open_log_file
from sovren_edge.observe.settings import LogSettings

BUFFER_LINES = 20_000
JSON = orjson.OPT_APPEND_NEWLINE
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Access(TypedDict):
    """One finished request, as its line says it; times in microseconds, sizes in bytes; `path` is without its query."""

    timestamp: str
    event: Literal["request"]
    listener: str
    client: str
    method: str
    path: str
    status: int
    request_id: str
    endpoint: str
    attempts: int
    queue_us: int
    ttfb_us: int
    duration_us: int
    received: int
    sent: int
    ended: str
    trace_id: str


class Timestamps:
    """Writes the time in ISO 8601, to the millisecond; `wall` reads the time of day in seconds."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        # The millisecond that `_text` stands for, in seconds.
        self._since = self._until = 0.0
        self._second = -1
        self._prefix = self._text = ""

    def __call__(self) -> str:
        """Return the time as it is now; many requests end in the same millisecond, more in the same second."""
        wall = self._wall()
        if not self._since <= wall < self._until:
            millisecond = int(wall * 1000)
            self._since, self._until = millisecond / 1000, (millisecond + 1) / 1000
            second, rest = divmod(millisecond, 1000)
            if second != self._second:
                self._second = second
                self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
            self._text = f"{self._prefix}{rest:03d}Z"
        return self._text


class LogWriter:
    """A bounded buffer and the one thread that empties it into a file, which it closes at its end."""

    def __init__(self, file: LogFile, *, readable: bool, **always: object) -> None:
        """Begin; `always` is at the end of what it tells of itself."""
        self._file = file
        self._json = not readable
        self._lines: deque[bytes] = deque()
        self._log = make_logger(self.put, "info", **always)
        self._wake = threading.Event()
        self._closing = self._reopening = False
        # The first is counted where lines come from, the others in the thread.
        self._overflowed = self._failed = self._told = 0
        self._reopen_failures = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that were lost."""
        return self._overflowed + self._failed

    def put(self, line: EventDict | Access) -> None:
        """Queue a line; when the buffer is full it is dropped and counted."""
        if len(self._lines) >= BUFFER_LINES:
            self._overflowed += 1
            return
        # Rendered here: a second thread that works under the interpreter's lock would make every request wait for it.
        self._lines.append(orjson.dumps(line, default=str, option=JSON) if self._json else _readable(line))
        # Not by how many lines there are: where two threads queue one each, neither may see the first.
        if not self._wake.is_set():
            self._wake.set()

    def reopen(self) -> None:
        """Have later lines go to the file that the path leads to then; the file so far is kept where that fails."""
        self._reopening = True
        self._wake.set()

    def collect(self) -> Iterator[Metric]:
        """See registry.Collector."""
        dropped = CounterMetricFamily("edge_log_lines_dropped", "Lines that were lost: a full disk, a stuck terminal.")
        dropped.add_metric((), self.dropped)
        yield dropped
        failures = CounterMetricFamily("edge_log_reopen_failures", "Times that the log's file was not opened anew.")
        failures.add_metric((), self._reopen_failures)
        yield failures

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what is queued, but wait for a stuck file no longer than this."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        pause = threading.Event()
        while not self._closing or self._lines:
            self._wake.clear()
            if not (self._lines or self._closing or self._reopening):
                self._wake.wait()
            # Lines of some milliseconds are written at once: a write per line costs more than the line.
            if not self._closing:
                pause.wait(0.02)
            self._write_queued()
            if self._reopening:
                self._reopening = False
                self._reopen()
        self._file.close()

    def _write_queued(self) -> None:
        while self._lines:
            batch = self._take_batch()
            try:
                self._file.write(b"".join(batch))
            except OSError:
                self._failed += len(batch)
                continue
            if not self._lines and self.dropped > self._told:
                lost, self._told = self.dropped - self._told, self.dropped
                self._log.warning("log_lines_lost", lines=lost)

    def _take_batch(self) -> list[bytes]:
        """Take lines as long as they are written at once."""
        lines, batch = self._lines, [self._lines.popleft()]
        room = self._file.most - len(batch[0])
        while lines and (room := room - len(lines[0])) >= 0:
            batch.append(lines.popleft())
        return batch

    def _reopen(self) -> None:
        try:
            before, self._file = self._file, self._file.opened_anew()
        except OSError as error:
            self._reopen_failures += 1
            self._log.error("log_not_reopened", why=error.strerror, advice="lines go on to the file before it")
            return
        if before is not self._file:
            before.close()


@contextmanager
def open_log(settings: LogSettings, **always: object) -> Iterator[tuple[FilteringBoundLogger, LogWriter]]:
    """Open the log: JSON lines to a file or a pipe, readable lines on a terminal; `always` is at the end of events."""
    file = open_log_file(settings.path)
    writer = LogWriter(file, readable=file.terminal, **always)
    try:
        yield make_logger(writer.put, settings.level, **always), writer
    finally:
        writer.close()


def make_logger(put: Callable[[EventDict], None], level: str, **always: object) -> FilteringBoundLogger:
    """Make a logger whose events go to `put` as dictionaries, each with the fields `always` at its end."""

    def emit(_logger: object, _method: str, event: EventDict) -> str:
        put({name: event.pop(name) for name in ("timestamp", "level", "event")} | dict(event) | always)
        raise structlog.DropEvent

    logger: FilteringBoundLogger = structlog.wrap_logger(
        None,
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            emit,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
    )
    return logger


def _readable(line: EventDict | Access) -> bytes:
    if line["event"] == "request":
        return _readable_access(cast("Access", line))
    return _readable_event(cast("EventDict", line))


def _readable_access(line: Access) -> bytes:
    at = datetime.fromisoformat(line["timestamp"]).astimezone().strftime("%H:%M:%S")
    where = f" -> {line['endpoint']}" if line["endpoint"] else ""
    times = f"first byte {line['ttfb_us'] / 1e3:.0f} ms, all {line['duration_us'] / 1e3:.0f} ms"
    ended = "" if line["ended"] == "complete" else f", {line['ended']}"
    what = f"{line['status']} {line['method']} {line['path']} {line['listener']}{where}"
    return f"{at} {what}, {times}, {line['sent']} bytes{ended}\n".encode()


def _readable_event(line: EventDict) -> bytes:
    fields = dict(line)
    at = datetime.fromisoformat(str(fields.pop("timestamp"))).astimezone().strftime("%H:%M:%S")
    level, event, trace = fields.pop("level"), fields.pop("event"), fields.pop("exception", "")
    rest = " ".join(f"{name}={value}" for name, value in fields.items())
    mark = "" if level in {"info", "debug"} else f"{level.upper()} "
    return f"{at} {mark}{event} {rest}\n{trace + chr(10) if trace else ''}".encode()
