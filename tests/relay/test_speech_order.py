"""Requests for speech on a balanced port: the shortest first, and honest refusals."""

import asyncio

import orjson
from harness import Front, backend, eventually, front, make_pool, read_request
from test_relay import GET, OK

from pools.settings import QueueSettings


def speech(characters: int, *fields: str) -> bytes:
    """Ask for a text of a length."""
    body = orjson.dumps({"model": "tts-1", "voice": "alloy", "input": "x" * characters})
    lines = "".join(f"{field}\r\n" for field in fields).encode()
    head = b"POST /v1/audio/speech HTTP/1.1\r\nHost: me\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return head + lines + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


async def waiting(edge: Front, *requests: bytes) -> list[asyncio.Task[bytes]]:
    """Send requests that must wait, one after the other."""
    tasks = []
    for request in requests:
        before = edge.pools[0].waiting
        tasks.append(asyncio.create_task(edge.call(request)))
        await eventually(lambda before=before: edge.pools[0].waiting == before + 1)
    return tasks


async def test_short_texts_overtake_long_ones() -> None:
    """And a class may say otherwise, from a trusted address."""
    heard: list[int] = []
    free = asyncio.Event()

    async def engine(_head: bytes, body: bytes) -> bytes:
        await free.wait()
        heard.append(len(orjson.loads(body)["input"]))
        return OK

    async with backend(engine) as one, front(make_pool("p", [one.port], slots=1, kind="speech")) as edge:
        first = asyncio.create_task(edge.call(speech(1)))
        await eventually(lambda: edge.pools[0].inflight == 1)
        requests = (speech(900), speech(40, "X-Sovren-Priority: bulk"), speech(120), speech(50))
        tasks = [first, *await waiting(edge, *requests)]
        free.set()
        answers = await asyncio.gather(*tasks)
    assert heard == [1, 50, 120, 900, 40]
    assert all(answer.endswith(b"hello") for answer in answers)
    assert edge.relay.stats_of(edge.pools[0]).estimate_error.count == 5


async def test_a_deadline_out_of_reach_is_refused_at_once() -> None:
    """With 503, Retry-After and a reason; nobody waits for nothing."""
    free = asyncio.Event()

    async def engine(_head: bytes, _body: bytes) -> bytes:
        await free.wait()
        return OK

    async with backend(engine) as one, front(make_pool("p", [one.port], slots=1, kind="speech")) as edge:
        first = asyncio.create_task(edge.call(speech(6000)))
        await eventually(lambda: edge.pools[0].inflight == 1)
        answer = await edge.call(speech(10, "X-Sovren-Deadline-Ms: 1000"))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in head
        assert orjson.loads(body)["reason"] == "deadline_out_of_reach"
        free.set()
        assert (await first).endswith(b"hello")


async def test_a_greedy_address_leaves_room_in_the_queue() -> None:
    """Half of it, while others ask too; callers behind a trusted address name themselves."""
    free = asyncio.Event()

    async def engine(_head: bytes, _body: bytes) -> bytes:
        await free.wait()
        return OK

    queue = QueueSettings(limit=4)
    async with (
        backend(engine) as one,
        front(make_pool("p", [one.port], slots=1, kind="speech", queue=queue, coalesce=False)) as edge,
    ):
        first = asyncio.create_task(edge.call(speech(10, "X-Sovren-Caller: bob")))
        await eventually(lambda: edge.pools[0].inflight == 1)
        tasks = await waiting(edge, *(speech(10, "X-Sovren-Caller: greedy") for _ in range(2)))
        assert b'"queue_full"' in await edge.call(speech(10, "X-Sovren-Caller: greedy"))
        tasks += await waiting(edge, speech(10, "X-Sovren-Caller: bob"))
        free.set()
        assert all(answer.endswith(b"hello") for answer in await asyncio.gather(first, *tasks))


async def test_a_caller_is_whom_its_token_names() -> None:
    """Before what it says itself, and before its address; a token that names nobody is no hindrance."""
    free = asyncio.Event()

    async def engine(_head: bytes, _body: bytes) -> bytes:
        await free.wait()
        return OK

    def name(authorization: bytes) -> str:
        return authorization.decode() if authorization != b"unknown" else ""

    pool_queue = QueueSettings(limit=4)
    async with backend(engine) as one:
        pool = make_pool("p", [one.port], slots=1, kind="speech", queue=pool_queue, coalesce=False)
        async with front(pool, name=name) as edge:
            first = asyncio.create_task(edge.call(speech(10, "Authorization: bob", "X-Sovren-Caller: ann")))
            await eventually(lambda: pool.inflight == 1)
            tasks = await waiting(edge, *(speech(10, f"{field}: ann") for field in ("Authorization", "authorization")))
            # The third of ann is one too many, whatever else she says she is; those of others are not.
            assert b'"queue_full"' in await edge.call(speech(10, "Authorization:  ann ", "X-Sovren-Caller: bob"))
            assert b'"queue_full"' in await edge.call(speech(10, "Authorization: unknown", "X-Sovren-Caller: ann"))
            tasks += await waiting(edge, speech(10, "Authorization: unknown"), speech(10, "Authorization: bob"))
            free.set()
            assert all(answer.endswith(b"hello") for answer in await asyncio.gather(first, *tasks))
            assert sum(b"\r\nAuthorization: unknown\r\n" in head for head, _ in one.requests) == 1


async def test_nothing_is_repeated_while_others_wait() -> None:
    """A second attempt must not take the slot of somebody who has not had one; see also test_relay_failures."""
    gate = asyncio.Event()

    async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await gate.wait()
        writer.transport.abort()

    async with backend(raw=dying) as one:
        pool = make_pool("p", [one.port], slots=1, repeatable=True)
        async with front(pool) as edge:
            calls = [asyncio.ensure_future(edge.call(GET)) for _ in range(2)]
            await eventually(lambda: pool.waiting == 1)
            gate.set()
            answers = await asyncio.gather(*calls)
            assert all(answer.startswith(b"HTTP/1.1 502 ") for answer in answers)
            # The first was not repeated; the second, behind whom nobody waited, was.
            assert sorted(line.attempts for line in edge.lines) == [1, 2]
