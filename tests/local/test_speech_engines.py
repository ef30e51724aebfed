"""The relay's door before real engines: what is heard is what one engine says, whatever becomes of the others."""

import asyncio
import random
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
from harness import Front, backend, eventually, front, make_pool, read_request, unchunk
from test_scatter import audio
from voices import LONG, request, response, text_of, wav

from pools.endpoint import Endpoint
from pools.pool import Pool
from sovren_edge.relay.settings import RelaySettings
from sovren_edge.speech.audio import Mp3Track
from sovren_edge.speech.sentences import divide
from tests.local.conftest import PATIENCE_S, start_engine
from tests.local.test_engine import get, speak
from tests.ports import free_port

ENGINES = 4
SENTENCES = (
    "The board met on Monday at nine.",
    "Dr. Smith read the figures aloud.",
    "Sales rose by 3.4 percent!",
    "Was that only luck?",
    "Nobody believed so.",
    "The new plant costs too much.",
    "Seven were for it, two against.",
    "Mrs. Lee asked about the site.",
    "The chair thanked them all.",
    "They will meet again in May.",
)
TEXTS = [" ".join(random.Random(seed).sample(SENTENCES, 6)) for seed in range(100)]
# Many sentences in each part, so that there is a middle of it for a while.
WORDS = " ".join(("Stay.", "Walk.", "Turn.", "Wait.") * 16)
WAV_HEADER = wav("", size=0xFFFF_FFFF)
IMPATIENT = RelaySettings(first_byte_timeout_s=1.0, idle_timeout_s=1.0)
FORMS = ("pcm", "wav")
Raw = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Engine:
    """A real engine."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def alive(self) -> bool:
        """Whether nobody has killed it."""
        return self.process.poll() is None


@pytest.fixture(scope="module")
def started() -> Iterator[list[Engine]]:
    """Start all engines at once; they are ended here if they live still."""
    ports = [free_port() for _ in range(ENGINES)]
    with ExitStack() as stack, ThreadPoolExecutor(ENGINES) as threads:
        processes = [stack.enter_context(process) for process in threads.map(start_engine, ports)]
        for process in processes:
            stack.callback(process.kill)
        for port in ports:
            assert get(port, "/health") == b'{"status":"ok"}'
        yield [Engine(process, port) for process, port in zip(processes, ports, strict=True)]


@pytest.fixture
def engines(started: list[Engine]) -> list[Engine]:
    """Return those that are alive."""
    alive = [engine for engine in started if engine.alive]
    assert len(alive) >= 2
    return alive


@pytest.fixture(scope="module")
def originals(started: list[Engine]) -> dict[str, bytes]:
    """Return the samples of each text as one engine says the whole of it."""
    alive = [engine.port for engine in started if engine.alive]
    texts = [*TEXTS, LONG, WORDS]
    ports = [alive[number % len(alive)] for number in range(len(texts))]
    with ThreadPoolExecutor(len(alive)) as threads:
        spoken = threads.map(lambda port, text: speak(port, text, response_format="pcm"), ports, texts)
        return dict(zip(texts, spoken, strict=True))


def pool_of(ports: Iterable[int], *, slots: int = 2, deterministic: bool = False) -> Pool:
    """Make a pool whose endpoints may share a text."""
    return make_pool(
        "tts",
        list(ports),
        slots=slots,
        kind="speech",
        interchangeable=True,
        repeatable=True,
        deterministic=deterministic,
    )


def of_port(pool: Pool, port: int) -> Endpoint:
    """Return the endpoint with this port."""
    (endpoint,) = (one for one in pool.endpoints if one.port == port)
    return endpoint


def sent(edge: Front, texts: Iterable[str], form: str = "pcm") -> list[asyncio.Task[bytes]]:
    """Ask for many texts at once."""
    return [asyncio.create_task(edge.call(request(text, form), timeout_s=PATIENCE_S)) for text in texts]


def samples(answer: bytes, form: str = "pcm") -> bytes:
    """Return the sound of a whole answer."""
    heard = audio(answer)
    if form == "pcm":
        return heard
    assert heard.startswith(WAV_HEADER)
    return heard.removeprefix(WAV_HEADER)


def misheard(
    texts: Sequence[str], answers: Sequence[bytes], originals: dict[str, bytes], form: str = "pcm"
) -> list[str]:
    """Return the texts of which not every sample is as one engine says it."""
    pairs = zip(texts, answers, strict=True)
    return [text for text, answer in pairs if samples(answer, form) != originals[text]]


async def expect_rest(edge: Front, requests: int) -> None:
    """Check that every counter is back at zero, and that the log has every request as complete."""
    await eventually(lambda: edge.at_rest and len(edge.lines) == requests)
    (pool,) = edge.pools
    assert [endpoint.inflight for endpoint in pool.endpoints] == [0] * len(pool.endpoints)
    assert {(line.status, line.ended) for line in edge.lines} == {(200, "complete")}
    assert not any(upstream.served for upstream in edge.relay.connections.all)
    assert edge.relay.stats_of(pool).scattered == requests


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("form", FORMS)
async def test_a_text_in_parts_sounds_as_if_one_engine_had_said_it(
    engines: list[Engine], originals: dict[str, bytes], form: str, *, deterministic: bool
) -> None:
    """Sample for sample, in wav behind one header of unknown sizes; every engine has had a part."""
    pool = pool_of((engine.port for engine in engines), deterministic=deterministic)
    async with front(pool) as edge:
        (answer,) = await asyncio.gather(*sent(edge, [LONG], form))
        assert samples(answer, form) == originals[LONG]
        await expect_rest(edge, 1)
        stats = edge.relay.stats_of(pool)
        assert (stats.parts, stats.parts_repeated) == (len(list(divide(LONG))), 0)
        assert sum(1 for one in stats.endpoints.values() if one.attempts["succeeded"]) == min(4, len(engines))


async def test_mp3_is_the_parts_frames_one_behind_the_other(engines: list[Engine], originals: dict[str, bytes]) -> None:
    """Every frame is whole, there is nothing between them, and it lasts as long as the same in samples."""
    pool = pool_of(engine.port for engine in engines)
    async with front(pool) as edge:
        (answer,) = await asyncio.gather(*sent(edge, [LONG], "mp3"))
        heard, track = audio(answer), Mp3Track()
        assert track.feed(heard) == heard
        track.end()
        parts = list(divide(LONG))
        assert 0 <= track.seconds - len(originals[LONG]) / 48_000 < 0.1 * len(parts)
        port = engines[0].port
        alone = [await asyncio.to_thread(speak, port, part, response_format="mp3") for part in parts]
        assert heard == b"".join(alone)
        await expect_rest(edge, 1)


@pytest.mark.parametrize("deterministic", [False, True])
async def test_an_engine_that_is_killed_while_many_texts_are_spoken_costs_nothing(
    engines: list[Engine], originals: dict[str, bytes], *, deterministic: bool
) -> None:
    """All texts are complete and as one engine says them: what the dead one had begun is spoken again by others."""
    victim = engines[-1]
    pool = pool_of((engine.port for engine in engines), deterministic=deterministic)
    endpoint = of_port(pool, victim.port)
    async with front(pool) as edge:
        calls = sent(edge, TEXTS)
        await eventually(lambda: len(edge.lines) >= 5 and endpoint.inflight == 2, PATIENCE_S)
        victim.process.kill()
        assert misheard(TEXTS, await asyncio.gather(*calls), originals) == []
        await expect_rest(edge, len(TEXTS))
        stats = edge.relay.stats_of(pool)
        assert stats.parts_repeated + stats.retries > 0
        assert not endpoint.ready


@asynccontextmanager
async def stopped(engine: Engine) -> AsyncIterator[None]:
    """Let an engine stand still: it listens, and does nothing."""
    engine.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        engine.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("deterministic", [False, True])
async def test_an_engine_that_stands_still_in_mid_speech_costs_its_time_out_alone(
    engines: list[Engine], originals: dict[str, bytes], *, deterministic: bool
) -> None:
    """The others speak what it has not finished, and nothing of what it had said is heard twice."""
    victim = engines[1]
    pool = pool_of((engine.port for engine in engines), deterministic=deterministic)
    endpoint = of_port(pool, victim.port)
    async with front(pool, settings=IMPATIENT) as edge:
        (call,) = sent(edge, [WORDS])
        await eventually(lambda: endpoint.inflight and endpoint.active_at > 0)
        async with stopped(victim):
            assert samples(await call) == originals[WORDS]
            await expect_rest(edge, 1)
        assert edge.door.stats.timeouts["idle"] > 0
        assert edge.relay.stats_of(pool).parts_repeated > 0


async def test_an_engine_that_stands_still_before_it_has_begun_costs_its_time_out_alone(
    engines: list[Engine], originals: dict[str, bytes]
) -> None:
    """The others speak in its place, and it is one of them again when it goes on."""
    victim = engines[0]
    pool = pool_of(engine.port for engine in engines)
    async with front(pool, settings=IMPATIENT) as edge:
        async with stopped(victim):
            (call,) = sent(edge, [LONG])
            assert samples(await call) == originals[LONG]
            assert edge.door.stats.timeouts["first_byte"] > 0
        await expect_rest(edge, 1)
    assert await asyncio.to_thread(speak, victim.port, LONG, response_format="pcm") == originals[LONG]


def breaking(engine: Engine) -> Raw:
    """Return an endpoint that says the first half as an engine does, and breaks off in the middle of a chunk."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, body = await read_request(reader)
        text = text_of(body)
        form = "wav" if b'"wav"' in body else "pcm"
        whole = await asyncio.to_thread(speak, engine.port, text, response_format=form)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: audio/{form}\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode() + b"%x\r\n" % len(whole) + whole[: len(whole) // 2])
        await writer.drain()

    return serve


def ogg(_head: bytes, _body: bytes) -> bytes:
    """Answer with what cannot be joined."""
    return response(b"OggS" + bytes(400), media_type="audio/ogg")


def fast_wav(_head: bytes, body: bytes) -> bytes:
    """Answer with samples of another rate."""
    return response(wav(text_of(body), rate=48_000), media_type="audio/wav")


def mp3(_head: bytes, _body: bytes) -> bytes:
    """Answer with mp3, whatever was asked for: a second of frames of 288 bytes each."""
    return response((b"\xff\xf3\xa4\xc4" + bytes(284)) * 42, media_type="audio/mpeg")


@pytest.mark.parametrize(("wrong", "place"), [(ogg, 0), (ogg, 1), (fast_wav, 1), (mp3, 1), (mp3, 0)])
async def test_an_endpoint_that_answers_in_a_wrong_form_is_not_heard(
    engines: list[Engine], originals: dict[str, bytes], wrong: Callable[[bytes, bytes], bytes], place: int
) -> None:
    """The part that it was given, the first or the second one, is spoken again by an engine."""
    async with backend(wrong) as odd:
        ports = [engine.port for engine in engines]
        pool = pool_of([*ports[:place], odd.port, *ports[place:]])
        async with front(pool) as edge:
            (answer,) = await asyncio.gather(*sent(edge, [LONG], "wav"))
            assert text_of(odd.requests[0][1]) == list(divide(LONG))[place]
            assert samples(answer, "wav") == originals[LONG]
            await expect_rest(edge, 1)
            assert edge.relay.stats_of(pool).parts_repeated >= len(odd.requests)


@pytest.mark.parametrize(
    ("deterministic", "goes_on"),
    [(False, True), (True, True), (True, False)],
)
async def test_the_rest_of_what_comes_in_a_wrong_form_is_not_waited_for(
    engines: list[Engine], originals: dict[str, bytes], *, deterministic: bool, goes_on: bool
) -> None:
    """An endpoint that still speaks when its form is seen to be another one is no longer heard; its slot is free."""
    refused = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole = fast_wav(*await read_request(reader))
        writer.write(whole[: len(whole) // 2])
        if goes_on:
            await refused.wait()
            writer.write(whole[len(whole) // 2 :])
            await writer.drain()
        await reader.read()

    async with backend(raw=serve) as odd:
        first, *others = [engine.port for engine in engines]
        pool = pool_of([first, odd.port, *others], deterministic=deterministic)
        async with front(pool) as edge:
            stats = edge.relay.stats_of(pool)
            (call,) = sent(edge, [LONG], "wav")
            if not deterministic:
                # Nothing of a part is looked at before all of it is there.
                refused.set()
            await eventually(lambda: stats.parts_repeated)
            refused.set()
            assert samples(await call, "wav") == originals[LONG]
            assert [endpoint.inflight for endpoint in pool.endpoints] == [0] * len(pool.endpoints)
            await expect_rest(edge, 1)


async def test_a_text_that_began_at_another_rate_is_broken_off_rather_than_mixed(engines: list[Engine]) -> None:
    """Where nobody can go on as it began, nothing of the engines' sound follows, and the end is no orderly one."""

    def once(head: bytes, body: bytes) -> bytes:
        return fast_wav(head, body) if len(odd.requests) == 1 else response(b"", status="503 Service Unavailable")

    async with backend(once) as odd:
        pool = pool_of([odd.port, *(engine.port for engine in engines)])
        async with front(pool) as edge:
            (answer,) = await asyncio.gather(*sent(edge, [LONG], "wav"))
            _, _, body = answer.partition(b"\r\n\r\n")
            assert unchunk(body) is None
            assert unchunk(body + b"0\r\n\r\n") == wav(next(divide(LONG)), rate=48_000, size=0xFFFF_FFFF)
            await eventually(lambda: edge.at_rest and edge.lines)
            assert edge.lines[0].ended.startswith("a part of the text was lost")


@pytest.mark.parametrize("deterministic", [False, True])
async def test_an_endpoint_that_breaks_off_in_mid_speech_is_continued_by_others(
    engines: list[Engine], originals: dict[str, bytes], *, deterministic: bool
) -> None:
    """At the sample where it stopped, where its first half has been passed on already."""
    async with backend(raw=breaking(engines[-1])) as bad:
        pool = pool_of([bad.port, *(engine.port for engine in engines)], deterministic=deterministic)
        async with front(pool) as edge:
            texts = TEXTS[:6]
            assert misheard(texts, await asyncio.gather(*sent(edge, texts)), originals) == []
            await expect_rest(edge, len(texts))
            assert bad.connections
            assert edge.relay.stats_of(pool).parts_repeated >= bad.connections


async def test_when_all_goes_wrong_at_once_every_counter_is_at_zero_afterwards(
    engines: list[Engine], originals: dict[str, bytes]
) -> None:
    """With endpoints that break off or answer nonsense, and callers that leave while others hear the same text."""
    async with backend(raw=breaking(engines[0])) as bad, backend(ogg) as odd:
        pool = pool_of([bad.port, odd.port, *(engine.port for engine in engines)])
        async with front(pool) as edge:
            texts = TEXTS[:6]
            leaving = [await edge.connect() for _ in texts]
            for (_, writer), text in zip(leaving, texts, strict=True):
                writer.write(request(text))
            calls = sent(edge, texts)
            stats = edge.relay.stats_of(pool)
            await eventually(lambda: stats.coalesced == len(texts) and stats.parts_repeated)
            for _, writer in leaving:
                writer.transport.abort()
            assert misheard(texts, await asyncio.gather(*calls), originals) == []
            await eventually(lambda: edge.at_rest and len(edge.lines) == 2 * len(texts))
            assert Counter(line.ended for line in edge.lines) == {"complete": len(texts), "caller left": len(texts)}
            assert [endpoint.inflight for endpoint in pool.endpoints] == [0] * len(pool.endpoints)
            assert not any(upstream.served for upstream in edge.relay.connections.all)
            assert (bad.connections, len(odd.requests)) > (0, 0)
