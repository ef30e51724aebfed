"""Owns log lines: events through structlog, one access line per request, both written off the loop.

Must not know what happened; it only writes it. A full disk or a stuck terminal drops lines and counts them.
"""

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
from structlog.typing import EventDict, FilteringBoundLogger

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
        self._render = _readable if readable else _json
        self._lines: deque[EventDict | Access] = deque()
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
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()

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
            self._stream.write(b"".join(self._render(self._lines.popleft()) for _ in range(count)))
            self._stream.flush()
        except (OSError, ValueError):
            self.dropped += count


@contextmanager
def open_log(settings: LogSettings) -> Iterator[tuple[FilteringBoundLogger, LogWriter]]:
    """Open the log: JSON lines to a file or a pipe, readable lines on a terminal."""
    target = settings.path or sys.stderr.fileno()
    with FileIO(target, "a", closefd=bool(settings.path)) as raw:
        writer = LogWriter(BufferedWriter(raw, 1 << 20), readable=not settings.path and raw.isatty())
        try:
            yield make_logger(writer.put, settings.level), writer
        finally:
            writer.close()


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


def access_fields(access: Access) -> EventDict:
    """Translate an access record into the names of the log."""
    fields: EventDict = {
        "timestamp": datetime.fromtimestamp(access.at, UTC).isoformat(timespec="milliseconds"),
        "event": "request",
        **access._asdict(),
    }
    del fields["at"]
    for name in ("queue_s", "ttfb_s", "duration_s"):
        fields[name] = round(fields[name], 6)
    return fields


def _json(line: EventDict | Access) -> bytes:
    fields = access_fields(line) if isinstance(line, Access) else line
    return orjson.dumps(fields, default=str, option=orjson.OPT_APPEND_NEWLINE)


def _readable(line: EventDict | Access) -> bytes:
    if isinstance(line, Access):
        at = datetime.fromtimestamp(line.at).astimezone().strftime("%H:%M:%S")
        where = f" -> {line.endpoint}" if line.endpoint else ""
        return (
            f"{at} {line.status or '---'} {line.method} {line.path} {line.listener}{where} "
            f"first byte {line.ttfb_s * 1e3:.0f} ms, all {line.duration_s * 1e3:.0f} ms, {line.sent} bytes"
            f"{'' if line.ended == 'complete' else ', ' + line.ended}\n"
        ).encode()
    fields = dict(line)
    at = datetime.fromisoformat(fields.pop("timestamp")).astimezone().strftime("%H:%M:%S")
    level, event, trace = fields.pop("level"), fields.pop("event"), fields.pop("exception", "")
    rest = " ".join(f"{name}={value}" for name, value in fields.items())
    mark = "" if level in {"info", "debug"} else f"{level.upper()} "
    return f"{at} {mark}{event} {rest}\n{trace + chr(10) if trace else ''}".encode()
