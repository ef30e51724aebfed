"""Tiers of speech with other formats, and other names for models and voices."""

import orjson
import pytest
from harness import Backend, Front, backend, front, make_pool
from voices import LONG, request, sound, speaking

NAMES = {"models": {"*": "kokoro"}, "voices": {"alloy": "heart"}}


def asked(one: Backend) -> list[tuple[str, str]]:
    """Return the models and voices that an endpoint was asked for."""
    bodies = [orjson.loads(body) for _, body in one.requests]
    return [(body["model"], body["voice"]) for body in bodies]


async def spoken(made: Front, audio_format: str, text: str = "Good morning.") -> bytes:
    """Ask for a text; return the answer."""
    return await made.call(request(text, audio_format))


@pytest.mark.parametrize(
    ("audio_format", "first_serves"), [("wav", True), ("mp3", True), ("opus", False)], ids=["wav", "mp3", "opus"]
)
async def test_a_tier_without_the_format_is_passed_over(audio_format: str, *, first_serves: bool) -> None:
    """Another one has it."""
    async with backend(speaking) as one, backend(speaking) as two:
        first = make_pool("tts", [one.port], kind="speech", formats=("mp3", "wav"))
        async with front(first, make_pool("csm", [two.port], kind="speech")) as made:
            assert (await spoken(made, audio_format)).startswith(b"HTTP/1.1 200 OK")
            assert (len(one.requests), len(two.requests)) == ((1, 0) if first_serves else (0, 1))


async def test_where_no_form_is_named_it_is_mp3() -> None:
    """As all servers that are known have it."""
    async with backend(speaking) as one, backend(speaking) as two:
        first = make_pool("tts", [one.port], kind="speech", formats=("wav",))
        async with front(first, make_pool("csm", [two.port], kind="speech", formats=("mp3",))) as made:
            body = b'{"model":"tts-1","input":"Good morning.","voice":"alloy"}'
            head = b"POST /v1/audio/speech HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            assert (await made.call(head % len(body) + body)).startswith(b"HTTP/1.1 200 OK")
            assert (len(one.requests), len(two.requests)) == (0, 1)


async def test_a_format_that_no_tier_has_is_left_to_the_endpoints() -> None:
    """They say best what is wrong with it."""
    async with backend(speaking) as one:
        pool = make_pool("tts", [one.port], kind="speech", formats=("mp3",))
        async with front(pool) as made:
            assert (await spoken(made, "flac")).startswith(b"HTTP/1.1 200 OK")
            assert len(one.requests) == 1


async def test_each_tier_is_asked_by_its_own_names() -> None:
    """Those that it does not rename stay as they came, byte for byte."""
    async with backend(speaking) as one, backend(speaking) as two:
        first = make_pool("tts", [one.port], kind="speech", names=NAMES)
        second = make_pool("csm", [two.port], kind="speech")
        async with front(first, second) as made:
            assert (await spoken(made, "pcm")).endswith(sound("Good morning."))
            first.enable(first.endpoints[0], 0.0, enabled=False)
            assert (await spoken(made, "pcm")).endswith(sound("Good morning."))
            assert asked(one) == [("kokoro", "heart")]
            assert asked(two) == [("tts-1", "alloy")]
            assert request("Good morning.", "pcm").endswith(two.requests[0][1])


async def test_parts_are_asked_for_by_the_same_names() -> None:
    """All of them."""
    async with backend(speaking) as one:
        pool = make_pool("tts", [one.port], kind="speech", interchangeable=True, names=NAMES)
        async with front(pool) as made:
            await spoken(made, "pcm", LONG)
            assert len(one.requests) > 1
            assert set(asked(one)) == {("kokoro", "heart")}
