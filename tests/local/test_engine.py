"""A real engine, asked over its port."""

import http.client
import io
import signal
import socket
import wave
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import orjson
import pytest

from tests.local.conftest import PATIENCE_S, start_engine, wait_until
from tests.ports import free_port

FIRST = "Good morning."
SECOND = "Mrs. Lee will see you at 10:30, won't she?"


@contextmanager
def asked(port: int, method: str, path: str, body: bytes | None = None) -> Iterator[http.client.HTTPResponse]:
    """Send one request and yield its answer, unread."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, body, {"Content-Type": "application/x-www-form-urlencoded"} if body else {})
        yield connection.getresponse()
    finally:
        connection.close()


def speak(port: int, text: str, **members: object) -> bytes:
    """Return the audio of a text."""
    body = orjson.dumps({"model": "tts-1", "input": text, **members})
    with asked(port, "POST", "/v1/audio/speech", body) as answer:
        assert answer.status == 200, answer.read()
        return answer.read()


def get(port: int, path: str) -> bytes:
    """Return a page's body."""
    with asked(port, "GET", path) as answer:
        assert answer.status == 200
        return answer.read()


def spoken(port: int) -> int:
    """Return how many sentences the engine has spoken."""
    return int(orjson.loads(get(port, "/stats"))["sentences_spoken"])


def test_wav_holds_real_speech(engine_port: int) -> None:
    """It is more than half a second long, and not silent."""
    audio = speak(engine_port, FIRST, response_format="wav")
    with wave.open(io.BytesIO(audio)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24000, 1, 2)
    samples = np.frombuffer(audio[44:], "<i2")
    assert samples.size > 12000
    assert np.abs(samples).max() > 1000


def test_pcm_is_the_payload_of_wav(engine_port: int) -> None:
    """And the same request has the same samples, whatever the voice is called."""
    audio = speak(engine_port, FIRST, response_format="wav", voice="nova")
    assert speak(engine_port, FIRST, response_format="pcm") == audio[44:]


def test_a_sentence_is_the_same_alone_and_within_a_text(engine_port: int) -> None:
    """Sample for sample."""
    alone = [speak(engine_port, text, response_format="pcm") for text in (FIRST, SECOND)]
    assert speak(engine_port, f"{FIRST} {SECOND}", response_format="pcm") == b"".join(alone)


def test_mp3_is_the_default_and_begins_with_a_frame(engine_port: int) -> None:
    """Every frame's head is where the one before ends."""
    audio = speak(engine_port, f"{FIRST} {SECOND}")
    # MPEG-2 layer III at 96 kbit/s and 24 kHz: 576 samples, thus 288 bytes a frame.
    heads = [audio[at : at + 2] for at in range(0, len(audio), 288)]
    assert len(heads) > 20
    assert set(heads) == {b"\xff\xf3"}


def test_speed_shortens_speech(engine_port: int) -> None:
    """Twice as fast is about half as long."""
    slow, fast = (speak(engine_port, SECOND, response_format="pcm", speed=speed) for speed in (1.0, 2.0))
    assert 0.35 < len(fast) / len(slow) < 0.65


@pytest.mark.parametrize("text", ["", " \n ", "!!! ...", "日本"])
def test_what_cannot_be_spoken_is_refused(engine_port: int, text: str) -> None:
    """The status says so, before any audio."""
    with asked(engine_port, "POST", "/v1/audio/speech", orjson.dumps({"input": text})) as answer:
        problem = orjson.loads(answer.read())
    assert (answer.status, problem["statusCode"], problem["reason"]) == (400, 400, "unspeakable_input")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/audio/speech", b"not json", 400),
        ("POST", "/v1/audio/speech", b'{"input":"a","voice":"emma"}', 400),
        ("POST", "/v1/audio/speech", b" " * 2_000_000, 413),
        ("GET", "/v1/audio/speech", None, 405),
        ("GET", "/nowhere", None, 404),
    ],
)
def test_every_refusal_is_json(engine_port: int, method: str, path: str, body: bytes | None, status: int) -> None:
    """Clients always parse it."""
    with asked(engine_port, method, path, body) as answer:
        problem = orjson.loads(answer.read())
    assert (answer.status, problem["statusCode"]) == (status, status)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["error"] == problem["message"] == problem["detail"]
    assert answer.headers["Allow"] == ("POST" if status == 405 else None)


def test_health_is_exact_and_voices_are_listed(engine_port: int) -> None:
    """Byte for byte."""
    assert get(engine_port, "/health") == b'{"status":"ok"}'
    assert {"heart", "alloy", "verse"} < set(orjson.loads(get(engine_port, "/v1/audio/voices"))["voices"])


def test_a_short_text_need_not_wait_for_a_long_one(engine_port: int) -> None:
    """Their sentences take turns, and a caller that leaves stops its own."""
    before = spoken(engine_port)
    body = orjson.dumps({"input": f"{SECOND}\n" * 500, "response_format": "wav"})
    with asked(engine_port, "POST", "/v1/audio/speech", body) as answer:
        assert answer.read(4) == b"RIFF"
        speak(engine_port, FIRST)
        assert 2 <= spoken(engine_port) - before < 200
    wait_until(lambda: nobody_else_speaks(engine_port))
    assert spoken(engine_port) - before < 250


def nobody_else_speaks(port: int) -> bool:
    """Whether of what was spoken during a request of our own, all was ours."""
    before = spoken(port)
    speak(port, f"{FIRST} {FIRST} {FIRST}")
    return spoken(port) - before == 3


def test_a_text_without_end_is_spoken_piece_by_piece(engine_port: int) -> None:
    """Neither missing punctuation nor endless numbers make the engine hold it all."""
    for text in ("no end in sight " * 400, "7" * 3000):
        with asked(engine_port, "POST", "/v1/audio/speech", orjson.dumps({"input": text})) as answer:
            assert answer.status == 200
            assert answer.read(2) == b"\xff\xf3"


def test_http_1_0_gets_speech_without_chunks(engine_port: int) -> None:
    """The end of the connection is the end of the audio."""
    body = b'{"input":"Good morning.","response_format":"pcm"}'
    with socket.create_connection(("127.0.0.1", engine_port), PATIENCE_S) as connection:
        connection.sendall(b"POST /v1/audio/speech HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, audio = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert audio == speak(engine_port, "Good morning.", response_format="pcm")


def test_ctrl_c_is_the_parent_s_and_sigterm_ends() -> None:
    """A request still works after SIGINT; SIGTERM is a clean end."""
    port = free_port()
    with start_engine(port) as process:
        process.send_signal(signal.SIGINT)
        assert get(port, "/health") == b'{"status":"ok"}'
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
