"""Equal requests in flight share one attempt."""

import asyncio

import pytest
from harness import Backend, Front, backend, eventually, front, make_pool, read_request, unchunk
from voices import request, response, slowly, sound, text_of

from pools.pool import Pool
from sovren_edge.speech import coalesce

TEXT = "Good morning."


def pool_of(*backends: Backend, slots: int = 2) -> Pool:
    """Make a pool for speech."""
    return make_pool("tts", [one.port for one in backends], slots=slots, kind="speech", repeatable=True)


def with_fields(fields: bytes, text: str = TEXT) -> bytes:
    """Return a request with further fields."""
    return request(text).replace(b"Host: x\r\n", b"Host: x\r\n" + fields, 1)


def body_of(answer: bytes) -> bytes | None:
    """Return an answer's body, None if it is broken."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return unchunk(body) if b"chunked" in head else body


async def joined(made: Front, count: int) -> None:
    """Wait until so many requests take part in another one's answer."""
    await eventually(lambda: made.relay.stats_of(made.pools[0]).coalesced == count)


async def test_twenty_equal_requests_at_once_are_spoken_once() -> None:
    """Whatever their callers call themselves; each is logged, and one has made an attempt."""
    gate = asyncio.Event()
    async with backend(slowly(gate)) as one, front(pool_of(one)) as made:
        calls = [
            asyncio.ensure_future(made.call(with_fields(b"User-Agent: caller/%d\r\nX-Request-Id: id-%d\r\n" % (n, n))))
            for n in range(20)
        ]
        await joined(made, 19)
        gate.set()
        answers = await asyncio.gather(*calls)
        assert {body_of(answer) for answer in answers} == {sound(TEXT)}
        assert len(one.requests) == 1
        assert all(b"X-Request-Id: id-%d\r\n" % n in answer for n, answer in enumerate(answers))
        assert sorted(line.attempts for line in made.lines) == [0] * 19 + [1]
        assert {line.status for line in made.lines} == {200}


@pytest.mark.parametrize(
    "fields",
    [b"Authorization: Bearer b\r\n", b"Cookie: session=b\r\n", b"X-Api-Key: b\r\n", b"Accept: audio/wav\r\n"],
)
async def test_what_may_have_another_answer_is_not_shared(fields: bytes) -> None:
    """Another credential above all, whatever its name."""
    gate = asyncio.Event()
    async with backend(slowly(gate)) as one, front(pool_of(one)) as made:
        calls = [asyncio.ensure_future(made.call(with_fields(more))) for more in (b"", fields)]
        await eventually(lambda: len(one.requests) == 2)
        gate.set()
        assert {body_of(answer) for answer in await asyncio.gather(*calls)} == {sound(TEXT)}


@pytest.mark.parametrize(
    ("path", "shared"), [("/v1/audio/speech", False), ("/v1/chat/completions", True)], ids=["switched off", "no speech"]
)
async def test_other_requests_are_not_shared(path: str, *, shared: bool) -> None:
    """Where the pool does not want it, or what they ask for may be something else than speech."""
    gate = asyncio.Event()
    async with (
        backend(slowly(gate)) as one,
        front(make_pool("tts", [one.port], kind="speech", coalesce=shared)) as made,
    ):
        calls = [asyncio.ensure_future(made.call(request(TEXT, path=path))) for _ in range(2)]
        await eventually(lambda: len(one.requests) == 2)
        gate.set()
        await asyncio.gather(*calls)


class Streamer:
    """An endpoint that sends its answer in pieces, when it is told to."""

    def __init__(self) -> None:
        self.requests = 0
        self.writer: asyncio.StreamWriter | None = None
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; see backend's `raw`."""
        await read_request(reader)
        self.requests += 1
        self.writer = writer
        await reader.read()
        self.left.set()

    async def send(self, data: bytes) -> None:
        """Send some of the answer."""
        await eventually(lambda: self.writer is not None)
        assert self.writer is not None
        self.writer.write(data)
        await self.writer.drain()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: audio/pcm\r\nContent-Length: 8\r\n\r\n"


async def test_who_comes_late_gets_all_of_it() -> None:
    """What has come so far at once, the rest as it comes."""
    engine = Streamer()
    async with backend(raw=engine.serve) as one, front(pool_of(one)) as made:
        reader, writer = await made.connect()
        writer.write(request(TEXT))
        await engine.send(HEAD + b"1234")
        first = await reader.readuntil(b"1234")
        late_reader, late_writer = await made.connect()
        late_writer.write(request(TEXT))
        assert (await late_reader.readuntil(b"1234")).startswith(b"HTTP/1.1 200 OK\r\n")
        await engine.send(b"5678")
        assert (first + await reader.read()).endswith(b"\r\n\r\n12345678")
        assert await late_reader.read() == b"5678"
        assert engine.requests == 1
        writer.close()
        late_writer.close()


@pytest.mark.parametrize("begun", [False, True])
async def test_a_caller_that_leaves_takes_nothing_from_the_others(*, begun: bool) -> None:
    """The first as well as any other; the work ends with the last."""
    engine = Streamer()
    async with backend(raw=engine.serve) as one, front(pool_of(one)) as made:
        callers = [await made.connect() for _ in range(3)]
        for _, writer in callers:
            writer.write(request(TEXT))
            await eventually(lambda: engine.requests == 1)
        await joined(made, 2)
        if begun:
            await engine.send(HEAD + b"1234")
            for reader, _ in callers:
                await reader.readuntil(b"1234")
        callers[0][1].transport.abort()
        callers[2][1].transport.abort()
        await eventually(lambda: len(made.relay.downstreams) == 1)
        await engine.send((b"" if begun else HEAD + b"1234") + b"5678")
        assert (await callers[1][0].read()).endswith(b"5678")
        callers[1][1].close()


async def test_when_all_have_left_the_work_ends() -> None:
    """At once."""
    engine = Streamer()
    async with backend(raw=engine.serve) as one, front(pool_of(one)) as made:
        callers = [await made.connect() for _ in range(2)]
        for _, writer in callers:
            writer.write(request(TEXT))
        await joined(made, 1)
        await eventually(lambda: engine.requests == 1)
        for _, writer in callers:
            writer.transport.abort()
        await asyncio.wait_for(engine.left.wait(), 30)
        # And who comes now is spoken to anew.
        _, writer = await made.connect()
        writer.write(request(TEXT))
        await eventually(lambda: engine.requests == 2)
        writer.transport.abort()


async def test_a_failure_starts_one_retry_for_all() -> None:
    """Not one for each."""
    gate = asyncio.Event()
    tries: list[str] = []

    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, body = await read_request(reader)
        tries.append(text_of(body))
        await gate.wait()
        writer.close()

    async with backend(raw=fail) as bad, backend(raw=fail) as other, front(pool_of(bad, other)) as made:
        calls = [asyncio.ensure_future(made.call(request(TEXT))) for _ in range(5)]
        await joined(made, 4)
        gate.set()
        answers = await asyncio.gather(*calls)
        assert all(answer.startswith(b"HTTP/1.1 502") for answer in answers)
        assert len(tries) == 2


async def test_an_answer_that_is_too_long_to_remember_is_joined_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes then is spoken to anew; those inside get all of it."""
    monkeypatch.setattr(coalesce, "REMEMBERED", 6)
    engine = Streamer()
    async with backend(raw=engine.serve) as one, front(pool_of(one)) as made:
        reader, writer = await made.connect()
        writer.write(request(TEXT))
        await eventually(lambda: engine.requests == 1)
        second = asyncio.ensure_future(made.call(request(TEXT)))
        await joined(made, 1)
        await engine.send(HEAD + b"1234567")
        await reader.readuntil(b"1234567")
        before, engine.writer = engine.writer, None
        third = asyncio.ensure_future(made.call(request(TEXT)))
        await engine.send(HEAD + b"abcdefgh")
        assert engine.requests == 2
        assert before is not None
        before.write(b"8")
        assert await reader.read() == b"8"
        assert [body_of(await call) for call in (second, third)] == [b"12345678", b"abcdefgh"]
        writer.close()


async def test_a_broken_answer_is_broken_for_all() -> None:
    """And nobody takes it for whole."""
    engine = Streamer()
    async with backend(raw=engine.serve) as one, front(pool_of(one)) as made:
        calls = [asyncio.ensure_future(made.call(request(TEXT))) for _ in range(2)]
        await joined(made, 1)
        await engine.send(HEAD + b"1234")
        assert engine.writer is not None
        engine.writer.close()
        for answer in await asyncio.gather(*calls):
            assert answer.endswith(b"1234")
        assert all(line.ended.startswith("upstream broke") for line in made.lines)


async def test_a_shared_answer_of_an_endpoint_that_refuses() -> None:
    """Is the same for all."""
    gate = asyncio.Event()

    def refuse(_head: bytes, _body: bytes) -> bytes:
        return response(b"no", status="400 Bad Request", media_type="text/plain")

    async with backend(slowly(gate, refuse)) as one, front(pool_of(one)) as made:
        calls = [asyncio.ensure_future(made.call(request(TEXT))) for _ in range(3)]
        await joined(made, 2)
        gate.set()
        assert all(answer.startswith(b"HTTP/1.1 400") for answer in await asyncio.gather(*calls))
        assert len(one.requests) == 1


@pytest.mark.parametrize("field", [b"X-Sovren-Deadline-Ms: 300\r\n", b"X-Sovren-Priority: bulk\r\n"])
async def test_who_waits_otherwise_shares_nothing(field: bytes) -> None:
    """Somebody else's deadline or class is not theirs."""
    gate = asyncio.Event()
    async with backend(slowly(gate)) as one:
        pool = make_pool("tts", [one.port], kind="speech", slots=4)
        async with front(pool) as made:
            sent = request("Good morning.")
            calls = [made.call(each) for each in (sent, sent.replace(b"Host: x\r\n", b"Host: x\r\n" + field, 1))]
            tasks = [asyncio.create_task(call) for call in calls]
            await eventually(lambda: len(one.requests) == 2)
            gate.set()
            await asyncio.gather(*tasks)
            assert made.relay.stats_of(pool).coalesced == 0
