"""Owns log lines: events through structlog, one access line per request, both written off the loop.

Must not know what happened; it only writes it. A full disk or a stuck terminal drops lines and counts them.
"""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BufferedWriter, FileIO
from typing import NamedTuple

import orjson
import structlog
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from structlog.typing import EventDict, FilteringBoundLogger

from sovren_edge.errors import StartupError
from sovren_edge.observe.settings import LogSettings

BUFFER_LINES = 20_000
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Access(NamedTuple):
    """One finished request; times in seconds, sizes in bytes; `path` is without its query."""

    at: float
    listener: str
    client: str
    method: str
    path: str
    status: int
    request_id: str
    endpoint: str
    attempts: int
    queue_s: float
    ttfb_s: float
    duration_s: float
    received: int
    sent: int
    ended: str


class LogWriter:
    """A bounded buffer and the one thread that empties it."""

    def __init__(self, stream: BufferedWriter, *, readable: bool) -> None:
        self._stream = stream
        self._render = ReadableLines() if readable else JsonLines()
        self._lines: deque[bytes] = deque()
        self._wake = threading.Event()
        self._closing = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: EventDict | Access) -> None:
        """Queue a line; when the buffer is full it is dropped and counted."""
        if len(self._lines) >= BUFFER_LINES:
            self.dropped += 1
            return
        # Rendered here: a second thread that works under the interpreter's lock would make every request wait for it.
        self._lines.append(self._render(line))
        if not self._wake.is_set():
            self._wake.set()

    def collect(self) -> Iterator[Metric]:
        """See registry.Collector."""
        dropped = CounterMetricFamily("edge_log_lines_dropped", "Lines that were lost: a full disk, a stuck terminal.")
        dropped.add_metric((), self.dropped)
        yield dropped

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what is queued, but wait for a stuck stream no longer than this."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        pause = threading.Event()
        while not self._closing or self._lines:
            self._wake.wait()
            # Lines of some milliseconds are written at once: a write per line costs more than the line.
            if not self._closing:
                pause.wait(0.02)
            self._wake.clear()
            self._write_queued()
            if self._closing:
                self._wake.set()

    def _write_queued(self) -> None:
        count = len(self._lines)
        try:
            self._stream.write(b"".join([self._lines.popleft() for _ in range(count)]))
            self._stream.flush()
        except (OSError, ValueError):
            self.dropped += count


@contextmanager
def open_log(settings: LogSettings) -> Iterator[tuple[FilteringBoundLogger, LogWriter]]:
    """Open the log: JSON lines to a file or a pipe, readable lines on a terminal."""
    with _open(settings.path) as raw:
        writer = LogWriter(BufferedWriter(raw, 1 << 20), readable=not settings.path and raw.isatty())
        try:
            yield make_logger(writer.put, settings.level), writer
        finally:
            writer.close()


def _open(path: str) -> FileIO:
    if not path:
        return FileIO(sys.stderr.fileno(), "a", closefd=False)
    try:
        # Addresses of callers stand in it: not for everybody to read.
        return FileIO(path, "a", opener=lambda name, flags: os.open(name, flags, 0o640))
    except OSError as error:
        raise StartupError(f"log.path: {path} cannot be written to: {error.strerror}") from None


def make_logger(put: Callable[[EventDict], None], level: str) -> FilteringBoundLogger:
    """Make a logger whose events go to `put` as dictionaries."""

    def emit(_logger: object, _method: str, event: EventDict) -> str:
        put(event)
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


class JsonLines:
    """One JSON object a line."""

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def __call__(self, line: EventDict | Access) -> bytes:
        """Render a line."""
        if not isinstance(line, Access):
            ordered = {name: line.pop(name) for name in ("timestamp", "level", "event")} | dict(line)
            return orjson.dumps(ordered, default=str, option=orjson.OPT_APPEND_NEWLINE)
        # Written out, not built as a dictionary: this runs for every request. What a caller or an endpoint may have put
        # into a text is escaped; the rest cannot hold a character that JSON would escape.
        return (
            f'{{"timestamp":"{self._timestamp(line.at)}","event":"request","listener":"{line.listener}",'
            f'"client":"{line.client}","method":"{line.method}","path":{_text(line.path)},"status":{line.status},'
            f'"request_id":"{line.request_id}","endpoint":"{line.endpoint}","attempts":{line.attempts},'
            f'"queue_s":{line.queue_s:.6f},"ttfb_s":{line.ttfb_s:.6f},"duration_s":{line.duration_s:.6f},'
            f'"received":{line.received},"sent":{line.sent},"ended":{_text(line.ended)}}}\n'
        ).encode()

    def _timestamp(self, at: float) -> str:
        """Write the time in ISO 8601; the date and the second are written once a second."""
        second = int(at)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._prefix}{int((at - second) * 1000):03d}Z"


def _text(text: str) -> str:
    return orjson.dumps(text).decode()


class ReadableLines:
    """Lines for a person at a terminal."""

    def __call__(self, line: EventDict | Access) -> bytes:
        """Render a line."""
        return _readable_access(line) if isinstance(line, Access) else _readable_event(line)


def _readable_access(line: Access) -> bytes:
    at = datetime.fromtimestamp(line.at).astimezone().strftime("%H:%M:%S")
    where = f" -> {line.endpoint}" if line.endpoint else ""
    ended = "" if line.ended == "complete" else f", {line.ended}"
    return (
        f"{at} {line.status} {line.method} {line.path} {line.listener}{where}, first byte {line.ttfb_s * 1e3:.0f} ms, "
        f"all {line.duration_s * 1e3:.0f} ms, {line.sent} bytes{ended}\n"
    ).encode()


def _readable_event(line: EventDict) -> bytes:
    fields = dict(line)
    at = datetime.fromisoformat(fields.pop("timestamp")).astimezone().strftime("%H:%M:%S")
    level, event, trace = fields.pop("level"), fields.pop("event"), fields.pop("exception", "")
    rest = " ".join(f"{name}={value}" for name, value in fields.items())
    mark = "" if level in {"info", "debug"} else f"{level.upper()} "
    return f"{at} {mark}{event} {rest}\n{trace + chr(10) if trace else ''}".encode()
