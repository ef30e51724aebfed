"""Log lines: what they hold, where they go, and that they delay nobody."""

import io
import os
import select
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from sovren_edge.errors import StartupError
from sovren_edge.observe.log import BUFFER_LINES, Access, LogWriter, Timestamps, make_logger, open_log
from sovren_edge.observe.log_file import LogFile
from sovren_edge.observe.settings import LogSettings

REQUEST: Access = {
    "timestamp": "2026-11-22T22:24:06.500Z",
    "event": "request",
    "listener": "tts-master",
    "client": "127.0.0.1",
    "method": "POST",
    "path": '/a"b\\c',
    "status": 200,
    "request_id": "id-1",
    "endpoint": "tts-tier1-01",
    "attempts": 2,
    "queue_us": 250_000,
    "ttfb_us": 300_000,
    "duration_us": 1_500_000,
    "received": 10,
    "sent": 20,
    "ended": 'upstream broke: "why"',
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
}


def lines_of(path: Path) -> list[dict[str, object]]:
    """Read a log."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_requests_are_json_lines(tmp_path: Path) -> None:
    """In the order in which a person reads them."""
    path = tmp_path / "log"
    with open_log(LogSettings(path=str(path))) as (_, writer):
        writer.put(REQUEST)
    assert lines_of(path) == [REQUEST]
    assert list(lines_of(path)[0])[:2] == ["timestamp", "event"]


def test_events_are_json_lines(tmp_path: Path) -> None:
    """Time, level and event first; what is below the level is left out."""
    path = tmp_path / "log"
    with open_log(LogSettings(path=str(path), level="warning")) as (log, _):
        log.info("unimportant")
        log.warning("disk_filled", free=3, where=Path("/x"))
    (line,) = lines_of(path)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert (line["level"], line["event"], line["free"], line["where"]) == ("warning", "disk_filled", 3, "/x")


def test_exceptions_have_their_traceback(tmp_path: Path) -> None:
    """As one text."""
    path = tmp_path / "log"
    with open_log(LogSettings(path=str(path))) as (log, _):
        try:
            int("odd")
        except ValueError:
            log.exception("failed")
    (line,) = lines_of(path)
    assert "ValueError: invalid literal" in str(line["exception"])


@pytest.fixture
def terminal() -> Iterator[tuple[LogWriter, io.FileIO]]:
    """Write readable lines into a pipe, and read its other end."""
    read, write = os.pipe()
    with io.FileIO(read) as reader, io.FileIO(write, "w") as raw:
        yield LogWriter(LogFile(raw.fileno()), readable=True), reader


def test_lines_on_a_terminal_are_readable(terminal: tuple[LogWriter, io.FileIO]) -> None:
    """A request is a sentence, an event its name and fields, an error its traceback below."""
    writer, reader = terminal
    writer.put(REQUEST)
    log = make_logger(writer.put, "info")
    log.info("started", port=8200)
    log.error("broke", exc_info=ValueError("odd"))
    writer.close()
    text = reader.read(10_000).decode()
    assert ' 200 POST /a"b\\c tts-master -> tts-tier1-01, first byte 300 ms, all 1500 ms, 20 bytes' in text
    assert " started port=8200\n" in text
    assert " ERROR broke" in text
    assert "ValueError: odd" in text


def test_a_stuck_terminal_drops_and_counts_lines() -> None:
    """Nobody who logs waits for it; once it is read again, lines come as before, and one says how many were lost."""
    read, write = os.pipe()
    with io.FileIO(read) as reader, io.FileIO(write, "w") as raw:
        writer = LogWriter(LogFile(raw.fileno()), readable=False)
        # More than the pipe holds; whatever it does not hold is in the buffer.
        for _ in range(BUFFER_LINES + 7_000):
            writer.put(REQUEST)
        assert writer.dropped >= 7_000 - (1 << 16) // len(orjson.dumps(REQUEST)) - select.PIPE_BUF
        dropped, text = writer.dropped, bytearray()
        while b"log_lines_lost" not in text:
            text += reader.read(1 << 16)
        writer.put(REQUEST)
        writer.close()
        text += reader.read(1 << 16)
    lines = [orjson.loads(line) for line in text.splitlines()]
    assert lines[-1] == REQUEST
    assert (lines[-2]["event"], lines[-2]["lines"]) == ("log_lines_lost", dropped)
    assert len(lines) == BUFFER_LINES + 7_000 - dropped + 2
    assert writer.dropped == dropped


def test_times_are_of_their_own_second() -> None:
    """The date is written once a second, and never for another one."""
    times = [1_795_386_246.001, 1_795_386_246.999, 1_795_386_246.999, 1_795_386_247.0, 1_795_386_246.5]
    clock = iter(times)
    timestamp = Timestamps(lambda: next(clock))
    found = [datetime.fromisoformat(timestamp()) for _ in times]
    assert all(abs(time.timestamp() - at) < 0.002 for time, at in zip(found, times, strict=True))
    assert all(time.tzinfo == UTC for time in found)


def test_a_log_that_cannot_be_written_is_a_fault() -> None:
    """In words, before anything starts."""
    with (
        pytest.raises(StartupError, match=r"log\.path: /nowhere/log cannot be written to"),
        open_log(LogSettings(path="/nowhere/log")),
    ):
        pass


def test_a_log_is_not_for_everybody_to_read(tmp_path: Path) -> None:
    """It holds callers' addresses."""
    path = tmp_path / "log"
    with open_log(LogSettings(path=str(path))):
        assert path.stat().st_mode & 0o007 == 0
