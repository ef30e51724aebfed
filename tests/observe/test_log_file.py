"""The log's file: moved away, shared by processes, on a disk that is full and has room again."""

import io
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from logging_process import LoggingProcess, spoken
from program import until

from sovren_edge.observe.log import LogWriter, make_logger, open_log
from sovren_edge.observe.log_file import LogFile, open_log_file
from sovren_edge.observe.settings import LogSettings


def counted(writer: LogWriter) -> dict[str, int]:
    """Return what is counted of a log."""
    return {sample.name: int(sample.value) for family in writer.collect() for sample in family.samples}


def test_a_log_that_was_moved_goes_on_in_a_new_file(tmp_path: Path) -> None:
    """Nothing is lost, torn or out of order, however often; the new file is not for everybody to read."""
    path, moved = tmp_path / "log", [tmp_path / f"log.{number}" for number in range(20)]
    with open_log(LogSettings(path=str(path))) as (log, writer):
        count = 0
        for older in moved:
            path.rename(older)
            writer.reopen()
            while not path.exists():
                count += 1
                log.info("spoke", name="one", number=count, words="while it is rotated")
        count += 1
        log.info("spoke", name="one", number=count)
    assert spoken(*moved, path) == {"one": [*range(1, count + 1)]}
    assert path.stat().st_mode & 0o777 == 0o640
    assert not writer.dropped


def test_a_log_that_cannot_be_opened_anew_goes_on_where_it_was(tmp_path: Path) -> None:
    """It says so there, once for each attempt, and counts; the next attempt may succeed."""
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    path = folder / "log"
    with open_log(LogSettings(path=str(path)), worker="balance") as (log, writer):
        folder.rename(moved)
        writer.reopen()
        until(lambda: counted(writer)["edge_log_reopen_failures_total"] == 1)
        log.info("still_logged")
        until(lambda: b"still_logged" in (moved / "log").read_bytes())
        folder.mkdir()
        writer.reopen()
        until(path.exists)
        log.info("logged_anew")
    lines = [orjson.loads(line) for line in (moved / "log").read_bytes().splitlines()]
    assert [line["event"] for line in lines] == ["log_not_reopened", "still_logged"]
    assert (lines[0]["why"], lines[0]["worker"]) == ("No such file or directory", "balance")
    assert [orjson.loads(line)["event"] for line in path.read_bytes().splitlines()] == ["logged_anew"]
    assert not writer.dropped


def test_standard_error_is_not_opened_anew() -> None:
    """Whoever reads it rotates it."""
    file = open_log_file("")
    assert file.opened_anew() is file
    file.close()
    os.fstat(2)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[LoggingProcess]]:
    """Start processes that share one file, `log`."""
    started = [LoggingProcess(tmp_path / "log", name) for name in ("one", "two", "three")]
    yield started
    for one in started:
        if one.process.returncode is None:
            one.process.kill()
            one.process.communicate()


def test_processes_share_a_file(tmp_path: Path, processes: list[LoggingProcess]) -> None:
    """Each line is whole, each process's lines are in order."""
    for _ in range(20):
        for one in processes:
            one.tell("put", 500)
    assert [one.end() for one in processes] == [0, 0, 0]
    assert spoken(tmp_path / "log") == {name: [*range(1, 10_001)] for name in ("one", "two", "three")}


def test_a_full_disk_tears_no_line_of_any_process(tmp_path: Path, processes: list[LoggingProcess]) -> None:
    """What does not fit is counted and told; when there is room again, lines come again."""
    path = tmp_path / "log"
    for one in processes:
        one.tell("limit", 300_000)
    for _ in range(10):
        for one in processes:
            one.tell("put", 400)
    for one in processes:
        until(lambda one=one: one.tell("lost") > 0)  # type: ignore[misc]
    assert path.stat().st_size <= 300_000
    for one in processes:
        one.tell("limit", 0)
        until(lambda one=one: one.tell("put", 1) and b"log_lines_lost" in path.read_bytes())  # type: ignore[misc]
    put, lost = [one.tell("put", 10) for one in processes], [one.end() for one in processes]
    numbers = spoken(path)
    # In the file, or counted: nothing else.
    assert [len(numbers[name]) for name in ("one", "two", "three")] == [
        all_of_them - missing for all_of_them, missing in zip(put, lost, strict=True)
    ]
    assert all(numbers[name] == sorted(numbers[name]) for name in numbers)


def test_a_device_that_is_full_delays_nobody() -> None:
    """Lines are dropped and counted."""
    writer = LogWriter(open_log_file("/dev/full"), readable=False)
    make_logger(writer.put, "info").info("spoke")
    until(lambda: writer.dropped == 1)
    writer.close()
    assert writer.dropped == 1


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount 256 KiB."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user cannot mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S607 - the system's


def test_a_disk_that_was_full_has_room_again(tmp_path: Path) -> None:
    """A real one, which somebody else has filled."""
    with small_disk(tmp_path / "disk") as disk:
        path, other = disk / "log", disk / "other"
        other.write_bytes(bytes(200_000))
        count = 0
        with open_log(LogSettings(path=str(path))) as (log, writer):

            def speak() -> None:
                nonlocal count
                count += 1
                log.info("spoke", name="one", number=count, words="x" * (count % 300))

            until(lambda: speak() or writer.dropped)
            other.unlink()
            until(lambda: speak() or b"log_lines_lost" in path.read_bytes())
        numbers = spoken(path)["one"]
        assert len(numbers) == count - writer.dropped
        assert numbers == sorted(numbers)


def test_half_a_line_on_standard_error_stands_alone(tmp_path: Path) -> None:
    """Nothing can be taken back there: whoever started the program may write to it as well."""
    path = tmp_path / "output"
    with path.open("ab") as output:
        one = LoggingProcess("", "one", stderr=output)
    one.tell("limit", 10_000)
    one.tell("put", 100)
    until(lambda: one.tell("lost"))
    one.tell("limit")
    until(lambda: one.tell("put", 1) and b"log_lines_lost" in path.read_bytes())
    all_of_them = one.tell("put", 10)
    lost = one.end()
    lines = path.read_bytes().splitlines()
    torn = [line for line in lines if not line.endswith(b"}")]
    assert len(torn) == 1
    assert sum(b'"spoke"' in line for line in lines if line not in torn) >= all_of_them - lost


def test_lines_fit_into_a_pipe_in_one_piece() -> None:
    """So that those of several processes are not mixed; what is longer goes alone."""
    read, write = os.pipe()
    with io.FileIO(read) as reader, io.FileIO(write, "w") as raw:
        file = Recorder(raw.fileno())
        writer = LogWriter(file, readable=False)
        log = make_logger(writer.put, "info")
        for length in [10] * 100 + [5000] + [10] * 100:
            log.info("spoke", words="x" * length)
        writer.close()
        assert reader.read(1 << 16) == b"".join(file.written)
    assert all(piece.endswith(b"\n") for piece in file.written)
    assert [piece.count(b"\n") for piece in file.written if len(piece) > select.PIPE_BUF] == [1]
    assert len(file.written) < 20


class Recorder(LogFile):
    """Remembers what was written at once."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self.written: list[bytes] = []

    def write(self, lines: bytes) -> None:
        """Write it as well."""
        self.written.append(lines)
        super().write(lines)
