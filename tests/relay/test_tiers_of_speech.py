"""Tiers of speech with other formats, and other names for models and voices."""

import asyncio

import orjson
import pytest
from harness import Backend, Front, backend, front, make_pool, read_request, unchunk
from voices import LONG, request, response, sound, speaking, wav

from pools.estimate import Estimates
from pools.pool import Pool

NAMES = {"models": {"*": "kokoro"}, "voices": {"alloy": "heart"}}


def asked(one: Backend) -> list[tuple[str, str]]:
    """Return the models and voices that an endpoint was asked for."""
    bodies = [orjson.loads(body) for _, body in one.requests]
    return [(body["model"], body["voice"]) for body in bodies]


async def spoken(made: Front, audio_format: str, text: str = "Good morning.") -> bytes:
    """Ask for a text; return the answer."""
    return await made.call(request(text, audio_format))


def samples_of(one: Backend) -> Pool:
    """Make a pool of an endpoint that has wav and no pcm."""
    return make_pool("csm", [one.port], kind="speech", formats=("wav",))


def samples(answer: bytes) -> bytes | None:
    """Return what a whole answer says."""
    return unchunk(answer.partition(b"\r\n\r\n")[2])


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


async def test_bare_samples_are_taken_out_of_a_wav_where_a_tier_has_no_pcm() -> None:
    """The caller sees pcm, the endpoint is asked for wav; names are its own."""
    async with backend(speaking) as one:
        pool = make_pool("csm", [one.port], kind="speech", interchangeable=True, formats=("mp3", "wav"), names=NAMES)
        async with front(pool) as made:
            answer = await spoken(made, "pcm", LONG)
            assert b"\r\nContent-Type: audio/pcm\r\n" in answer
            assert samples(answer) == sound(LONG)
            assert orjson.loads(one.requests[0][1])["response_format"] == "wav"
            assert asked(one) == [("kokoro", "heart")]
            assert pool.inflight == 0


async def test_a_tier_with_pcm_is_asked_for_it() -> None:
    """The other one serves when it is away."""
    async with backend(speaking) as one, backend(speaking) as two:
        first = make_pool("tts", [one.port], kind="speech", interchangeable=True, formats=("pcm",))
        async with front(first, make_pool("csm", [two.port], kind="speech", formats=("wav",))) as made:
            assert samples(await spoken(made, "pcm", LONG)) == sound(LONG)
            assert len(one.requests) > 1
            first.enable(first.endpoints[0], 0.0, enabled=False)
            assert samples(await spoken(made, "pcm", LONG)) == sound(LONG)
            assert len(two.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        wav("Good morning.", rate=44_100),
        wav("Good morning.")[:60],
        wav("Good morning.")[:30],
        b"no wav at all",
    ],
    ids=["another rate", "cut samples", "cut header", "no wav"],
)
async def test_what_holds_no_such_samples_is_no_answer(answer: bytes) -> None:
    """Who asked for pcm is never given anything else."""
    async with backend(lambda *_: response(answer, media_type="audio/wav")) as one:
        pool = samples_of(one)
        async with front(pool) as made:
            got = await spoken(made, "pcm")
            if got.startswith(b"HTTP/1.1 200"):
                assert not got.endswith(b"0\r\n\r\n")
            else:
                assert got.startswith(b"HTTP/1.1 502")
                assert b'"reason":"upstream_failed"' in got
            assert pool.inflight == 0


async def test_an_error_instead_of_a_wav_is_passed_on() -> None:
    """The endpoint's own words."""
    refusal = response(b'{"error":"no such voice"}', status="400 Bad Request")
    async with backend(lambda *_: refusal) as one, front(samples_of(one)) as made:
        assert (await spoken(made, "pcm")).endswith(b'{"error":"no such voice"}')


async def test_a_wav_that_breaks_off_is_broken_pcm() -> None:
    """The first samples may have been heard."""
    whole = response(wav("Good morning."), media_type="audio/wav")

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(whole[:-4])
        await writer.drain()

    async with backend(raw=break_off) as one, front(samples_of(one)) as made:
        assert not (await spoken(made, "pcm")).endswith(b"0\r\n\r\n")


async def test_an_endpoint_that_breaks_before_its_first_sample_has_failed() -> None:
    """The caller is told in words: nothing has been heard yet."""

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nRIFF\r\n")
        await writer.drain()

    async with backend(raw=break_off) as one, front(samples_of(one)) as made:
        assert (await spoken(made, "pcm")).startswith(b"HTTP/1.1 502 ")


async def test_what_is_taken_out_of_a_wav_as_a_whole_is_learned_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it was queued as a text in parts is, by its beginning."""
    learned: list[float] = []
    monkeypatch.setattr(Estimates, "observe", lambda _, characters, *_rest: learned.append(characters))
    async with backend(speaking) as one:
        pool = make_pool("tts", [one.port], kind="speech", interchangeable=True, formats=("wav",))
        async with front(pool) as made:
            assert samples(await made.call(request())) == sound(LONG)
    assert learned == [len(LONG)]
