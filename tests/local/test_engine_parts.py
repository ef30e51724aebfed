"""What the engine decides without a model or a port."""

import struct

import numpy as np
import orjson
import pytest

from sovren_edge.errors import EdgeError, Side
from sovren_edge.local.engine.audio import pcm, wav_header
from sovren_edge.local.engine.request import AudioFormat, read_request
from sovren_edge.local.engine.speaker import sentences_of


def test_a_request_has_openai_s_defaults() -> None:
    """Members that the engine does not know are ignored."""
    request = read_request(b'{"model":"tts-1","input":"Hello.","instructions":"softly","stream_format":"audio"}')
    assert (request.voice, request.response_format, request.speed) == ("alloy", AudioFormat.MP3, 1.0)
    assert read_request(b'{"input":"Hello.","speed":2}').speed == 2.0


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"voice": "emma"}, "voice: Value error, this voice is unknown; the voices are heart, alloy"),
        ({"voice": {"id": "heart"}}, "voice: Input should be a valid string"),
        ({"response_format": "opus"}, "response_format: Input should be 'mp3', 'pcm' or 'wav'"),
        ({"speed": 0.4}, "speed: Input should be greater than or equal to 0.5"),
        ({"speed": 2.1}, "speed: Input should be less than or equal to 2"),
        ({"speed": "1"}, "speed: Input should be a valid number"),
        ({"input": 7}, "input: Input should be a valid string"),
        ({"stream_format": "sse"}, "stream_format: Input should be 'audio'"),
    ],
)
def test_a_faulty_member_is_named(changes: dict[str, object], fault: str) -> None:
    """The refusal says which member, and what it may be."""
    with pytest.raises(EdgeError) as refused:
        read_request(orjson.dumps({"model": "tts-1", "input": "Hello.", **changes}))
    assert fault in refused.value.problem.detail
    assert (refused.value.problem.status, refused.value.problem.side) == (400, Side.CALLER)


@pytest.mark.parametrize(
    "body", [b"", b"hello", b"[]", b"\xff", b'{"input":"\\ud800"}', b"{}", b'{"input":"a","speed":NaN}']
)
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    """Whatever the bytes are, the answer is a 400."""
    with pytest.raises(EdgeError) as refused:
        read_request(body)
    assert refused.value.problem.status == 400


def test_a_streamed_header_tells_the_layout_and_no_size() -> None:
    """It has 44 bytes: mono, 24 kHz, 16 bits."""
    header = wav_header()
    assert len(header) == 44
    assert (header[:4], header[8:16], header[36:40]) == (b"RIFF", b"WAVEfmt ", b"data")
    assert header[4:8] == header[40:] == b"\xff" * 4
    assert struct.unpack("<IHHIIHH", header[16:36]) == (16, 1, 1, 24000, 48000, 2, 16)


def test_loud_samples_are_clipped() -> None:
    """They neither wrap nor overflow."""
    assert pcm(np.array([0.0, 1.0, -1.0, 3.0, -3.0], np.float32)) == struct.pack("<5h", 0, 32767, -32767, 32767, -32767)


def test_an_endless_sentence_is_cut_between_words() -> None:
    """No word is lost, and no piece is long."""
    text = "word " * 1000
    pieces = list(sentences_of(text + "End. New."))
    assert max(map(len, pieces)) <= 500
    assert pieces[-1] == "New."
    assert " ".join(pieces).split() == (text + "End. New.").split()


def test_an_endless_number_is_read_digit_by_digit() -> None:
    """Shorter ones stay as they are."""
    assert list(sentences_of("Pay 1,234,567.89 to 1234567890123456,7.")) == [
        "Pay 1,234,567.89 to 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7."
    ]
