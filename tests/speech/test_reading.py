"""What is read of a request for speech."""

from math import inf

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.demand import Demand, Priority
from sovren_edge.http.request import parse_request
from sovren_edge.speech.reading import read_demand, read_speech

HEAD = b"POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\n%s\r\n"
OPENAI = b'{"model":"tts-1","input":"Good morning.","voice":"alloy","response_format":"wav"}'


def demand(body: bytes = OPENAI, fields: bytes = b"", *, trusted: bool = True) -> Demand:
    """Read a request that came from 10.0.0.1 at 100 s."""
    return read_demand(parse_request(HEAD % fields, trusted=trusted), read_speech(body), "10.0.0.1", 100.0)


@pytest.mark.parametrize(
    ("body", "characters", "voice"),
    [
        (OPENAI, 13, "alloy"),
        (b'{"text":"Hello there","speaker":"x"}', 11, ""),
        (b'{"input":"slowly, please","speed":0.5}', 28, ""),
        (b'{"input":"quick","speed":100}', 1.25, ""),
        (b'{"input":"quick","speed":"fast","voice":{"id":"x"}}', 5, ""),
        ('{"input":"größer"}'.encode(), 6, ""),
        (b'{"input":["a"]}', None, ""),
        (b'{"voice":"alloy"}', None, ""),
        (b'["input"]', None, ""),
        (b"input=Good+morning", None, ""),
        (b"", None, ""),
        (b"[" * 60_000, None, ""),
        (b'{"input":"\xff"}', None, ""),
    ],
)
def test_every_form_of_text_is_read(body: bytes, characters: float | None, voice: str) -> None:
    """And what is no text has no length."""
    read = demand(body)
    assert (read.characters, read.voice) == (characters, voice)


def test_a_trusted_caller_says_who_it_is_and_how_soon() -> None:
    """By its address otherwise."""
    fields = b"X-Sovren-Caller: portal:7\r\nX-Sovren-Priority: Interactive\r\nx-sovren-deadline-ms: 1500 \r\n"
    read = demand(fields=fields)
    assert (read.caller, read.priority, read.deadline) == ("portal:7", Priority.INTERACTIVE, 101.5)
    assert demand().caller == "10.0.0.1"


def test_models_and_voices_have_other_names_elsewhere() -> None:
    """What is not renamed stays."""
    spoken = read_speech(OPENAI)
    assert spoken is not None
    assert spoken.renamed({}, {}) is spoken
    renamed = orjson.loads(spoken.renamed({"*": "kokoro"}, {"nova": "heart"}).body())
    assert (renamed["model"], renamed["voice"], renamed["input"]) == ("kokoro", "alloy", "Good morning.")
    other = read_speech(b'{"input":"x","voice":{"id":1}}')
    assert other is not None
    assert orjson.loads(other.renamed({"*": "kokoro"}, {"*": "heart"}).body()) == {"input": "x", "voice": {"id": 1}}


def test_what_is_to_be_spoken_together_says_so() -> None:
    """In a field, or else in the body."""
    body = b'{"input":"Good morning.","affinity":"call-7"}'
    assert demand(body).affinity == "call-7"
    assert demand(body, b"X-Sovren-Affinity: call-8\r\n").affinity == "call-8"
    assert demand(b'{"input":"x","affinity":7}').affinity == ""
    assert demand(b"", b"X-Sovren-Affinity: call-8\r\n", trusted=False).affinity == "call-8"


def test_from_elsewhere_only_a_lower_priority_is_believed() -> None:
    """Nobody makes himself more important, or somebody else."""
    told = b"X-Sovren-Caller: portal\r\nX-Sovren-Deadline-Ms: 1\r\nX-Sovren-Priority: "
    read = demand(fields=told + b"interactive\r\n", trusted=False)
    assert (read.caller, read.priority, read.deadline) == ("10.0.0.1", Priority.STANDARD, inf)
    assert demand(fields=told + b"bulk\r\n", trusted=False).priority is Priority.BULK


@pytest.mark.parametrize("value", [b"", b"soon", b"-1", b"1.5", b"1" * 10])
def test_a_deadline_that_is_none_is_passed_over(value: bytes) -> None:
    """As is a class that nobody knows."""
    fields = b"X-Sovren-Deadline-Ms: " + value + b"\r\nX-Sovren-Priority: urgent\r\n"
    assert demand(fields=fields) == demand()


@given(body=st.binary(max_size=300))
def test_anything_at_all_is_read(body: bytes) -> None:
    """Without a fault."""
    assert demand(body).caller == "10.0.0.1"


@given(text=st.text(min_size=1), speed=st.floats(0.25, 4.0))
def test_slow_speech_is_more_speech(text: str, speed: float) -> None:
    """By its speed."""
    try:
        body = orjson.dumps({"input": text, "speed": speed})
    except orjson.JSONEncodeError:
        return  # half of a surrogate pair: nobody can send it
    assert demand(body).characters == pytest.approx(len(text) / speed)
