"""Which bytes of a part are sound."""

import struct
from collections.abc import Iterable

import lameenc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovren_edge.local.engine.audio import Mp3Encoder
from sovren_edge.speech.audio import AudioError, Mp3Track, Track, WavTrack, open_track

FORM = struct.pack("<HHIIHH", 1, 1, 24_000, 48_000, 2, 16)
SAMPLES = bytes(range(200)) * 3


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    """Return a RIFF chunk."""
    return name + struct.pack("<I", len(data) if size is None else size) + data + b"\0" * (len(data) % 2)


def wav(*chunks: bytes, size: int = 0) -> bytes:
    """Return a RIFF file of these chunks."""
    return b"RIFF" + struct.pack("<I", size) + b"WAVE" + b"".join(chunks)


def read(track: Track, data: bytes, cuts: Iterable[int] = ()) -> bytes:
    """Feed bytes in pieces; return the sound."""
    at, sound = 0, b""
    for cut in [*sorted(cuts), len(data)]:
        sound += track.feed(data[at:cut])
        at = max(at, cut)
    track.end()
    return sound


@given(cuts=st.lists(st.integers(0, 700), max_size=6), size=st.sampled_from([None, 0, 0xFFFFFFFF]))
def test_wav_is_read_however_it_comes(cuts: list[int], size: int | None) -> None:
    """With other chunks before its samples, and sizes that say nothing."""
    data = wav(chunk(b"LIST", b"odd"), chunk(b"fmt ", FORM), chunk(b"fact", b"1234"), chunk(b"data", SAMPLES, size))
    track = WavTrack()
    assert read(track, data, cuts) == SAMPLES
    assert track.form == FORM
    assert track.seconds == pytest.approx(len(SAMPLES) / 48_000)
    assert read(WavTrack(), track.opening() + SAMPLES) == SAMPLES


def test_what_follows_the_samples_is_left_out() -> None:
    """Chunks of text, most often."""
    assert read(WavTrack(), wav(chunk(b"fmt ", FORM), chunk(b"data", SAMPLES), chunk(b"LIST", b"made by"))) == SAMPLES


@pytest.mark.parametrize(
    "data",
    [
        wav(chunk(b"fmt ", FORM), chunk(b"data", SAMPLES, len(SAMPLES) + 2)),
        wav(chunk(b"fmt ", FORM), chunk(b"data", b"", 0), SAMPLES[:-1]),
        wav(chunk(b"fmt ", FORM)),
        wav(chunk(b"data", SAMPLES)),
        wav(chunk(b"fmt ", FORM[:8]), chunk(b"data", SAMPLES)),
        wav(chunk(b"junk", bytes(70_000)), chunk(b"junk", bytes(70_000))),
        b"RIFF\0\0\0\0AVI " + SAMPLES,
        b"RIFF",
    ],
    ids=["cut", "half a sample", "no samples", "no format", "half a format", "no end", "no wav", "nothing"],
)
def test_a_wav_that_is_none_is_refused(data: bytes) -> None:
    """Whatever is missing."""
    with pytest.raises(AudioError):
        read(open_track(b"audio/wav", data), data)


def tone(seconds: float, hertz: int = 440) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return some sound."""
    return np.sin(np.arange(int(24_000 * seconds)) * (hertz * 2 * np.pi / 24_000)).astype(np.float32) * 0.5


def mp3(seconds: float) -> bytes:
    """Return frames as the local engine makes them."""
    encoder = Mp3Encoder()
    return encoder.encode(tone(seconds)) + encoder.finish()


TAG = b"ID3\x04\x00\x00\x00\x00\x01\x05" + bytes(133)
TAG_BEHIND = b"TAG" + bytes(125)


@given(cuts=st.lists(st.integers(0, 9_000), max_size=6), before=st.booleans(), behind=st.booleans())
def test_mp3_is_read_by_frames(cuts: list[int], before: bool, behind: bool) -> None:  # noqa: FBT001 - drawn
    """Without the tags around them."""
    frames = mp3(0.5)
    track = Mp3Track()
    assert read(track, TAG * before + frames + TAG_BEHIND * behind, cuts) == frames
    assert track.seconds == pytest.approx(0.5, abs=0.08)


def with_info(frames: bytes, name: bytes = b"Info") -> bytes:
    """Return frames behind one that counts them."""
    size = Mp3Track()._frame(frames, 0)  # noqa: SLF001 - the length of the first frame
    first = frames[:4] + bytes(9) + name
    return first + bytes(size - len(first)) + frames


@pytest.mark.parametrize("name", [b"Info", b"Xing"])
def test_a_frame_that_counts_others_is_left_out(name: bytes) -> None:
    """Of a joined answer it would tell less than the truth."""
    frames = mp3(0.3)
    assert read(Mp3Track(), with_info(frames, name)) == frames
    vbri = frames[:4] + bytes(32) + b"VBRI"
    vbri += bytes(Mp3Track()._frame(frames, 0) - len(vbri))  # noqa: SLF001
    assert read(Mp3Track(), vbri + frames) == frames


def test_joined_frames_are_one_stream() -> None:
    """Every part's frames are whole in it."""
    parts = [mp3(0.2), mp3(0.4), mp3(0.3)]
    joined = b"".join(read(Mp3Track(), TAG + part) for part in parts)
    track = Mp3Track()
    assert read(track, joined) == joined
    assert track.seconds == pytest.approx(sum(len(part) for part in parts) / len(joined) * track.seconds)


@pytest.mark.parametrize(
    "data",
    [b"", b"ID3\x04\0\0\0\0\x7f\x7f", mp3(0.2)[:-5], mp3(0.2) + b"TAG" + bytes(9), mp3(0.2) + bytes(300), bytes(64),
     TAG_BEHIND, b"\xff\xfb\xf0\x00" + bytes(99)],
)  # fmt: skip
def test_an_mp3_that_is_none_is_refused(data: bytes) -> None:
    """Nothing, a tag alone, half a frame, half a tag, zeros behind it, and what never was one."""
    with pytest.raises(AudioError):
        read(Mp3Track(), data)


def test_frames_of_two_forms_are_refused() -> None:
    """As they cannot be one stream."""
    encoder = lameenc.Encoder()
    encoder.silence()
    encoder.set_channels(1)
    encoder.set_in_sample_rate(44_100)
    other = bytes(encoder.encode(bytes(20_000))) + bytes(encoder.flush())
    assert read(Mp3Track(), other) == other
    with pytest.raises(AudioError):
        read(Mp3Track(), mp3(0.2) + other)


@pytest.mark.parametrize("media_type", [b"audio/pcm", b"audio/L16;rate=24000", b"AUDIO/PCM"])
def test_pcm_passes_as_it_is(media_type: bytes) -> None:
    """If its last sample is whole."""
    track = open_track(media_type, SAMPLES[:4])
    assert read(track, SAMPLES) == SAMPLES
    assert track.seconds == pytest.approx(len(SAMPLES) / 48_000)
    assert track.opening() == Mp3Track().opening() == b""
    with pytest.raises(AudioError):
        read(open_track(media_type, SAMPLES[:4]), SAMPLES[:-1])


@pytest.mark.parametrize("media_type", [b"", b"application/json", b"audio/ogg"])
def test_other_types_are_refused(media_type: bytes) -> None:
    """Whatever is in them."""
    with pytest.raises(AudioError):
        open_track(media_type, b"OggS")
