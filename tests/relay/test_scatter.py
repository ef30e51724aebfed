"""Texts that several endpoints speak at once."""

import asyncio
from contextlib import AsyncExitStack

import orjson
import pytest
from harness import Backend, backend, eventually, front, make_pool, read_request, unchunk
from voices import LONG, request, response, slowly, sound, speaking, text_of, wav

from pools.pool import Pool


def texts(backends: list[Backend]) -> list[str]:
    """Return all texts that were asked for."""
    return [text_of(body) for one in backends for _, body in one.requests]


def pool_of(*backends: Backend, slots: int = 2, deterministic: bool = False) -> Pool:
    """Make a pool whose endpoints may share a text."""
    ports = [one.port for one in backends]
    return make_pool(
        "tts", ports, slots=slots, kind="speech", repeatable=True, interchangeable=True, deterministic=deterministic
    )


def audio(answer: bytes) -> bytes:
    """Return a whole answer's body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), answer
    if b"transfer-encoding: chunked" not in head.lower():
        return body
    whole = unchunk(body)
    assert whole is not None, "the answer is broken"
    return whole


async def test_a_long_text_is_spoken_in_parts_and_heard_as_one() -> None:
    """By all endpoints; no sample is missing or twice, and the whole was logged as one request."""
    async with AsyncExitStack() as stack:
        backends = [await stack.enter_async_context(backend(speaking)) for _ in range(3)]
        pool = pool_of(*backends)
        made = await stack.enter_async_context(front(pool))
        answer = await made.call(request())
        assert audio(answer) == sound(LONG)
        assert b"\r\nContent-Type: audio/pcm\r\n" in answer
        said = texts(backends)
        assert len(said) >= 3
        assert sorted("".join(said)) == sorted(LONG)
        (line,) = made.lines
        assert (line.status, line.ended, line.attempts) == (200, "complete", len(said))
        stats = made.relay.stats_of(pool)
        assert (stats.scattered, stats.parts, stats.parts_repeated) == (1, len(said), 0)


async def test_wav_has_one_header() -> None:
    """And behind it the samples of all parts."""
    async with backend(speaking) as one, front(pool_of(one)) as made:
        spoken = audio(await made.call(request(audio_format="wav")))
        assert spoken == wav(LONG, size=0xFFFFFFFF)


async def test_the_first_part_is_heard_before_the_others_are_spoken() -> None:
    """The rest follows as it comes, in order."""
    gate = asyncio.Event()

    async def answer(head: bytes, body: bytes) -> bytes:
        if not LONG.startswith(text_of(body)):
            await gate.wait()
        return speaking(head, body)

    async with backend(answer) as one, front(pool_of(one, slots=4)) as made:
        reader, writer = await made.connect()
        writer.write(request())
        head = await reader.readuntil(b"\r\n\r\n")
        first = await reader.readuntil(b"\r\n")
        heard = await reader.readexactly(int(first, 16))
        assert sound(LONG).startswith(heard)
        assert 0 < len(heard) < len(sound(LONG)) / 2
        gate.set()
        assert audio(head + first + heard + await reader.read()) == sound(LONG)
        writer.close()


async def test_at_most_four_parts_are_spoken_at_once() -> None:
    """Whatever slots there are: a long text is not to have them all."""
    gate = asyncio.Event()
    text = LONG * 3
    async with backend(slowly(gate)) as one, front(pool_of(one, slots=16)) as made:
        call = asyncio.ensure_future(made.call(request(text)))
        await eventually(lambda: len(one.requests) == 4)
        gate.set()
        assert audio(await call) == sound(text)


@pytest.mark.parametrize("deterministic", [False, True])
async def test_an_endpoint_that_dies_in_mid_speech_costs_nothing(deterministic: bool) -> None:  # noqa: FBT001 - pytest
    """Its part is spoken again elsewhere, and no sample is heard twice."""
    dying: list[str] = []

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        dying.append(text_of(body))
        whole = response(sound(text_of(body)))
        writer.write(whole[: len(whole) - 15])
        await writer.drain()
        writer.close()

    async with backend(raw=die) as bad, backend(speaking) as good:
        pool = pool_of(bad, good, deterministic=deterministic)
        async with front(pool) as made:
            assert audio(await made.call(request())) == sound(LONG)
            assert dying
            assert made.relay.stats_of(pool).parts_repeated == len(dying)


async def test_a_text_that_nobody_can_finish_ends_as_broken() -> None:
    """What has been heard is not followed by an orderly end."""

    async def answer(head: bytes, body: bytes) -> bytes:
        if "luck" in text_of(body):
            return response(b"{}", status="500 Internal Server Error", media_type="application/json")
        return speaking(head, body)

    async with backend(answer) as one, backend(answer) as other, front(pool_of(one, other)) as made:
        answer_bytes = await made.call(request())
        head, _, body = answer_bytes.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert unchunk(body) is None
        assert made.lines[0].ended.startswith("a part of the text was lost")


async def test_what_an_endpoint_refuses_is_asked_for_as_a_whole() -> None:
    """So the caller gets the endpoint's own words."""

    def refuse(_head: bytes, _body: bytes) -> bytes:
        return response(b'{"error":"no such voice"}', status="400 Bad Request", media_type="application/json")

    async with backend(refuse) as one, front(pool_of(one)) as made:
        answer = await made.call(request())
        assert answer.startswith(b"HTTP/1.1 400")
        assert answer.endswith(b'{"error":"no such voice"}')
        assert text_of(one.requests[-1][1]) == LONG


@pytest.mark.parametrize(
    ("media_type", "body"),
    [("audio/ogg", b"OggS" + bytes(100)), ("audio/mpeg", bytes(100)), ("audio/wav", b"RIFF\0\0\0\0AVI " + bytes(64))],
)
async def test_what_cannot_be_joined_passes_whole(media_type: str, body: bytes) -> None:
    """An endpoint that answers something else than what was asked for is tried, and then left to itself."""

    def answer(_head: bytes, _body: bytes) -> bytes:
        return response(body, media_type=media_type)

    async with backend(answer) as one, front(pool_of(one)) as made:
        assert audio(await made.call(request())) == body
        assert text_of(one.requests[-1][1]) == LONG


@pytest.mark.parametrize(
    "asked",
    [
        request(audio_format="opus"),
        request("Only one sentence, however long it may be, cannot be divided into parts by anybody at all"),
        request(path="/v1/chat"),
        request()
        .replace(b'"model":"tts-1"', b'"stream_format":"sse"')
        .replace(b"Content-Length: ", b"Content-Length: 00"),
    ],
)
async def test_other_requests_pass_whole(asked: bytes) -> None:
    """Of other forms, of one sentence, to other paths, and those that want events."""
    head, _, body = asked.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    asked = b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body
    async with backend(speaking) as one, front(pool_of(one)) as made:
        await made.call(asked)
        assert [orjson.loads(body)["input"] for _, body in one.requests] == [text_of(body)]


async def test_an_endpoint_of_another_form_is_not_mixed_in() -> None:
    """A part with another sample rate is spoken again by somebody else."""

    def faster(_head: bytes, body: bytes) -> bytes:
        return response(wav(text_of(body), rate=48_000), media_type="audio/wav")

    first = asyncio.Event()

    async def answer(head: bytes, body: bytes) -> bytes:
        first.set()
        return speaking(head, body)

    async with backend(answer) as good, backend(slowly(first, faster)) as odd:
        pool = pool_of(good, odd, slots=1)
        async with front(pool) as made:
            assert audio(await made.call(request(audio_format="wav"))) == wav(LONG, size=0xFFFFFFFF)
            assert made.relay.stats_of(pool).parts_repeated == len(odd.requests) > 0
            # Nobody is asked again for what it has answered in another form.
            assert len({text_of(body) for _, body in odd.requests}) == len(odd.requests)


async def test_a_caller_that_leaves_ends_all_parts() -> None:
    """And every slot is free again: the front checks that."""

    async def listen(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await reader.read()

    async with backend(raw=listen) as one, front(pool_of(one, slots=3)) as made:
        _, writer = await made.connect()
        writer.write(request())
        await eventually(lambda: one.open == 3 and made.pools[0].waiting == 1)
        writer.transport.abort()
        await eventually(lambda: made.at_rest and not one.open)


async def test_a_tier_that_may_not_share_speaks_the_whole() -> None:
    """The text is divided by what the pool of its slot allows, not by what another tier does."""
    async with backend(speaking) as one:
        away = make_pool("tts", [1], kind="speech", interchangeable=True, ready=False)
        csm = make_pool("csm", [one.port], kind="speech")
        async with front(away, csm) as made:
            assert audio(await made.call(request())) == sound(LONG)
            assert len(one.requests) == 1
