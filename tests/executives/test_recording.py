"""Speech on disk."""

import os
import wave
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from handlers.executives.events import Sounded
from handlers.executives.recording import Recordings, wav_header
from tests.executives.board import Hands

HOUR = timedelta(hours=1)
MOST = 200_000
SECOND = b"\x01\x02" * 24_000


def files_in(directory: Path) -> list[Path]:
    """Return what is in a directory."""
    return list(directory.iterdir())


@pytest.fixture
def hands() -> Hands:
    """Return a clock that shows the time at which files are written here."""
    return Hands(datetime.now(UTC))


async def test_what_was_appended_is_read_and_played(tmp_path: Path, hands: Hands) -> None:
    """A recording is a file of WAV that any player reads, and its samples are read while it grows."""
    recording = Recordings(tmp_path, HOUR, MOST, hands.now).new()
    assert recording.duration_s == 0
    assert not files_in(tmp_path)
    assert await recording.append(SECOND) == Sounded(0, 48_000)
    assert await recording.append(SECOND[:4800]) == Sounded(48_000, 4800)
    assert await recording.read(47_998, 4) == b"\x01\x02\x01\x02"
    assert recording.duration_s == pytest.approx(1.1)
    await recording.finish()
    (path,) = files_in(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (24_000, 2, 1)
        assert file.getnframes() == 26_400
        assert file.readframes(24_000) == SECOND
    assert await recording.whole() == wav_header(52_800) + SECOND + SECOND[:4800]


async def test_a_recording_is_there_for_a_while(tmp_path: Path, hands: Hands) -> None:
    """Nobody gets one that is too old, and it is removed; others stay."""
    recordings = Recordings(tmp_path, HOUR, MOST, hands.now)
    recording = recordings.new()
    assert recordings.left(recording.id) is None
    await recording.append(SECOND)
    await recording.finish()
    found = recordings.left(recording.id)
    assert found is not None
    assert found.path.read_bytes()[44:] == SECOND
    assert found.size == len(SECOND) + 44
    assert abs(found.time - HOUR) < timedelta(minutes=1)
    assert recordings.sweep() == 0
    hands.move(HOUR + timedelta(minutes=1))
    assert recordings.left(recording.id) is None
    assert recordings.sweep() == 1
    assert not files_in(tmp_path)


async def test_the_oldest_go_where_there_are_too_many(tmp_path: Path, hands: Hands) -> None:
    """A full disk would keep nobody's speech."""
    recordings = Recordings(tmp_path, HOUR, MOST, hands.now)
    made = [recordings.new() for _ in range(5)]
    for age, recording in enumerate(reversed(made), 1):
        await recording.append(SECOND)
        await recording.finish()
        written_at = (hands.now() - age * timedelta(seconds=90)).timestamp()
        os.utime(recording.path, (written_at, written_at))
    (tmp_path / "not-ours.wav").mkdir()
    assert recordings.sweep() == 1
    assert [recordings.left(recording.id) is not None for recording in made] == [False, True, True, True, True]
    assert recordings.sweep() == 0
    assert Recordings(tmp_path, HOUR, 0, hands.now).sweep() == 3, "what may still grow stays"


async def test_what_is_discarded_has_never_been(tmp_path: Path, hands: Hands) -> None:
    """Also when nothing was written."""
    recording = Recordings(tmp_path, HOUR, MOST, hands.now).new()
    await recording.discard()
    await recording.append(SECOND)
    await recording.discard()
    assert recording.duration_s == 0
    assert not files_in(tmp_path)


def test_ids_are_not_to_be_guessed(tmp_path: Path, hands: Hands) -> None:
    """Each has 128 bits of its own."""
    recordings = Recordings(tmp_path, HOUR, MOST, hands.now)
    ids = {recordings.new().id for _ in range(100)}
    assert len(ids) == 100
    assert {len(one) for one in ids} == {22}
