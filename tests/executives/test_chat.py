"""Asking a chat model's server: what goes over the wire, and whatever can go wrong on it."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
from pydantic import SecretStr

from handlers.executives.chat import Chat, ChatSettings
from handlers.executives.circuit import Circuit
from handlers.executives.completion import Called, ChatEvent, Said, Turn, Usage
from sovren_edge.handler import EdgeError
from tests.executives.wire import END, HEAD, Act, Again, Script, events, sent, status, wire
from tests.handler.witness import Witness
from tests.relay.harness import eventually

QUESTION = [Turn("system", "Be brief."), Turn("user", "How are we?")]
TOOL = {"type": "function", "function": {"name": "propose", "parameters": {}}}
YES = '{"choices":[{"index":0,"delta":{"content":"Yes."},"finish_reason":null}]}'
THOUGHT = '{"choices":[{"index":0,"delta":{"reasoning_content":"Hm."},"finish_reason":null}]}'
STOP = '{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
COST = '{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}'
WHOLE: Script = [*events(YES, STOP, COST, "[DONE]"), END]
LISTED = status("200 OK", body=b"{}")
LONG_S = 30.0


class Asker:
    """The client under test, and what it logged."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.http = http
        self.witness = Witness()

    def chat(self, url: str, **given: object) -> Chat:
        """Return a client of a model that was found already."""
        settings: dict[str, Any] = {
            "model": "m", "key": SecretStr("sesame"), "max_tokens": 50, "connect_timeout_s": LONG_S,
            "first_token_timeout_s": LONG_S, "token_timeout_s": LONG_S, "probe_interval_s": 0.005,
        }  # fmt: skip
        circuit = Circuit()
        circuit.answered()
        return Chat(self.http, ChatSettings(url=url, **settings | given), circuit, self.witness.log)

    @property
    def changes(self) -> list[str]:
        """What was said of the model's state."""
        return [line["event"] for line in self.witness.lines if "became" in line["event"]]


@pytest.fixture
async def asker() -> AsyncIterator[Asker]:
    """Yield what asks; it logs neither the key nor a body, and warns of no connection that was left open."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        asker = Asker(http)
        yield asker
    logged = str(asker.witness.lines)
    assert not any(secret in logged for secret in ("sesame", "secret", "How are we?", "Yes."))


async def answer(chat: Chat, tools: Sequence[dict[str, Any]] = ()) -> list[ChatEvent]:
    """Return all that a model answers."""
    async with chat.ask(QUESTION, tools) as events:
        return [event async for event in events]


async def refused(chat: Chat) -> tuple[int, str]:
    """Return the error that a question ends with."""
    with pytest.raises(EdgeError) as caught:
        await answer(chat)
    problem = caught.value.problem
    assert "secret" not in problem.detail
    assert (problem.retry_after_s is None) is (problem.reason == "chat_refused")
    return problem.status, problem.reason


@asynccontextmanager
async def watching(chat: Chat) -> AsyncIterator[None]:
    """Probe the model while the block runs."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(chat.watch())
        try:
            yield
        finally:
            task.cancel()


@pytest.fixture
def void() -> Iterator[str]:
    """Yield the URL of a server to which packets vanish: its queue of connections is full, and it takes none."""
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        first.connect(server.getsockname())
        second.settimeout(0)
        second.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"


async def test_an_answer_comes_as_it_is_written(asker: Asker) -> None:
    """Each token as soon as it is there; what is known at the end, at the end."""
    go_on = asyncio.Event()
    call = (
        '{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"1","function":{"name":"propose","arguments":"{}"}}]}}]}'
    )
    script = [*events(YES), go_on, *events(call, STOP, COST, "[DONE]")[1:], END]
    async with wire(script) as server, asker.chat(server.url).ask(QUESTION, [TOOL]) as answered:
        assert await anext(answered) == Said("Yes.")
        go_on.set()
        assert [event async for event in answered] == [Usage(7, 3), Called("propose", "{}")]


async def test_a_question_is_asked_as_servers_know_it(asker: Asker) -> None:
    """With the key, on a connection of its own, and for no packed answer."""
    async with wire(WHOLE) as server:
        assert await answer(asker.chat(server.url), [TOOL]) == [Said("Yes."), Usage(7, 3)]
        assert await answer(asker.chat(server.url, key=None))
        (head, body), (other_head, other_body) = server.asked
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == "post /v1/chat/completions http/1.1"
    assert {"authorization: bearer sesame", "connection: close", "accept-encoding: identity"} <= set(lines)
    asked = orjson.loads(body)
    assert (asked["model"], asked["max_tokens"], asked["stream"], asked["tools"]) == ("m", 50, True, [TOOL])
    assert asked["messages"][1] == {"role": "user", "content": "How are we?"}
    assert b"uthorization" not in other_head
    assert "tools" not in orjson.loads(other_body)


async def test_who_leaves_ends_the_models_work(asker: Asker) -> None:
    """At once, with the connection: in the midst of an answer, and before it has begun."""
    async with wire([*events(YES), Act.HOLD], [Act.HOLD]) as server:
        chat = asker.chat(server.url)
        async with chat.ask(QUESTION) as answered:
            assert await anext(answered) == Said("Yes.")
        await eventually(lambda: server.left == 1)
        task = asyncio.ensure_future(answer(chat))
        await server.heard(2)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await eventually(lambda: server.left == 2)


async def test_what_goes_wrong_with_who_asks_is_not_the_models(asker: Asker) -> None:
    """It passes as it is, and the model is asked on."""
    async with wire(WHOLE) as server:
        chat = asker.chat(server.url)
        for _ in range(5):
            with pytest.raises(EdgeError, match="Elsewhere"):
                async with chat.ask(QUESTION):
                    raise EdgeError(503, "chat_unavailable", "Elsewhere.")
        assert await answer(chat)
    assert asker.changes == []


@pytest.mark.parametrize(
    "script",
    [
        [*events(YES, STOP), END],
        [*events(YES, "[DONE]"), END],
        [*events(YES, STOP), Act.BREAK],
        [*events(YES, STOP, "[DONE]"), Act.HOLD],
        [b"HTTP/1.1 200 OK\r\n\r\n", f"data: {YES}\n\ndata: [DONE]\n\n".encode()],
        [
            HEAD,
            *(sent(bytes([byte])) for byte in f": beat\r\n\r\ndata: {YES}\r\n\r\ndata: {STOP}\r\n\r\n".encode()),
            END,
        ],
    ],
    ids=["no DONE", "no reason", "broken at the end", "never closed", "until closed", "byte by byte"],
)
async def test_servers_end_in_many_ways(asker: Asker, script: Script) -> None:
    """Once they have said that an answer is whole, it is."""
    async with wire(script) as server:
        assert await answer(asker.chat(server.url)) == [Said("Yes.")]


@pytest.mark.parametrize(
    "script",
    [
        [*events(YES), END],
        [*events(YES)],
        [*events(YES), Act.BREAK],
        [*events(YES), b"no chunk\r\n"],
        [b"SSH-2.0-OpenSSH_9.2\r\n"],
        [*events(YES, '{"error":{"message":"secret"}}', "[DONE]"), END],
        [*events(YES), sent(b'event: error\ndata: "secret"\n\ndata: [DONE]\n\n'), END],
        [*events(YES, "secret"), END],
        [*events("x" * (1 << 20)), Act.HOLD],
        status("200 OK", "Content-Type: application/json", body=b'{"choices":[{"message":{"content":"secret"}}]}'),
    ],
    ids=["no end", "hung up", "reset", "no chunk", "no HTTP", "error", "event", "no JSON", "too long", "no stream"],
)  # fmt: skip
async def test_a_broken_answer_is_never_whole(asker: Asker, script: Script) -> None:
    """Its caller hears that it failed; others may ask on."""
    async with wire(script) as server:
        chat = asker.chat(server.url)
        for _ in range(4):
            assert await refused(chat) == (502, "chat_failed")
    assert asker.changes == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("400 Bad Request", (502, "chat_refused")),
        ("401 Unauthorized", (502, "chat_refused")),
        ("307 Temporary Redirect", (502, "chat_refused")),
        ("500 Internal Server Error", (502, "chat_failed")),
        ("429 Too Many Requests", (503, "chat_busy")),
        ("503 Service Unavailable", (503, "chat_busy")),
    ],
)
async def test_statuses_are_told_in_our_words(asker: Asker, line: str, told: tuple[int, str]) -> None:
    """Nobody follows a server elsewhere, hears what it says, or finds the others refused for it."""
    async with wire(status(line, "Location: /v1/elsewhere", "Retry-After: 7", body=b"secret")) as server:
        chat = asker.chat(server.url)
        for _ in range(4):
            assert await refused(chat) == told
        assert len(server.asked) == 4
    assert {line["status"] for line in asker.witness.lines} == ({int(line[:3])} if told[1] != "chat_busy" else set())


@pytest.mark.parametrize(
    ("script", "slow"),
    [
        ([Act.HOLD], "first_token_timeout_s"),
        ([HEAD, Act.HOLD], "first_token_timeout_s"),
        ([HEAD, Again(sent(b": still here\n\n"))], "first_token_timeout_s"),
        ([*events('{"choices":[{"delta":{"role":"assistant"}}]}'), Act.HOLD], "first_token_timeout_s"),
        ([*events(YES), Act.HOLD], "token_timeout_s"),
        ([*events(YES), Again(sent(b": still here\n\n"))], "token_timeout_s"),
        ([*events(THOUGHT), Act.HOLD], "token_timeout_s"),
    ],
    ids=["no head", "no token", "comments", "role", "gap", "comments in a gap", "thoughts"],
)
async def test_nobody_waits_for_ever(asker: Asker, script: Script, slow: str) -> None:
    """Neither for a first token, nor between two, whatever else keeps the connection alive."""
    async with wire(script) as server:
        assert await refused(asker.chat(server.url, **{slow: 0.2})) == (504, "chat_timeout")
        await eventually(lambda: server.left)


async def test_thoughts_show_that_a_model_works(asker: Asker) -> None:
    """Before its first word, it may think for longer than it may be silent."""
    async with wire([HEAD, Again(sent(f"data: {THOUGHT}\n\n".encode()))]) as server:
        chat = asker.chat(server.url, first_token_timeout_s=0.5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.8):
                await answer(chat)


async def test_a_model_that_is_stuck_is_not_asked_for_long(asker: Asker) -> None:
    """Its callers would all wait for nothing."""
    async with wire([Act.HOLD]) as server:
        chat = asker.chat(server.url, first_token_timeout_s=0.05)
        assert [await refused(chat) for _ in range(3)] == [(504, "chat_timeout")] * 3
        asked = len(server.asked)
        assert await refused(chat) == (503, "chat_unavailable")
        assert len(server.asked) == asked
    assert asker.changes == ["chat_became_unready"]


async def test_a_model_that_falls_silent_is_known_at_the_next_question(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it is probed soon, and who waits for it is told."""
    monkeypatch.setattr("handlers.executives.chat._PROBE_TIMEOUT_S", 0.05)
    async with wire(LISTED, [Act.HOLD]) as server:
        chat = asker.chat(server.url, probe_interval_s=LONG_S)
        async with watching(chat):
            await eventually(lambda: chat.ready)
            assert await refused(chat) == (503, "chat_unavailable")
            assert not chat.ready
    assert asker.changes == ["chat_became_unready"]


async def test_whoever_waits_is_told_that_the_others_failed(asker: Asker) -> None:
    """Once nobody is asked any more, as long as a probe fails as well."""
    async with wire(LISTED, [Act.HOLD], []) as server:
        chat = asker.chat(server.url, probe_interval_s=LONG_S)
        async with watching(chat):
            await eventually(lambda: chat.ready)
            waiting = asyncio.ensure_future(refused(chat))
            await server.heard(2)
            while not asker.changes:
                assert (await refused(chat))[0] == 503
            assert await waiting == (503, "chat_unavailable")


async def test_a_question_whose_time_is_just_over_ends_nobody(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the loop was busy, it and a probe are too late at once."""
    monkeypatch.setattr("handlers.executives.chat._PROBE_TIMEOUT_S", 0.3)
    async with wire([Act.HOLD]) as server:
        chat = asker.chat(server.url, first_token_timeout_s=0.3)
        async with watching(chat):
            await server.heard(1)
            asking = asyncio.ensure_future(refused(chat))
            await server.heard(2)
            time.sleep(0.5)  # noqa: ASYNC251 - the loop is to be busy
            assert (await asking)[1] in {"chat_timeout", "chat_unavailable"}
            await server.heard(3)


async def test_a_model_that_answers_probes_may_take_its_time(asker: Asker) -> None:
    """A long question, or others before it."""
    go_on = asyncio.Event()
    async with wire(LISTED, [go_on, *WHOLE], LISTED) as server:
        chat = asker.chat(server.url, probe_interval_s=LONG_S)
        async with watching(chat):
            await eventually(lambda: chat.ready)
            asking = asyncio.ensure_future(answer(chat))
            await server.heard(3)
            go_on.set()
            assert await asking
            assert chat.ready


@pytest.mark.parametrize("script", [[], [Act.BREAK]], ids=["hung up", "reset"])
async def test_a_server_that_hangs_up_is_away(asker: Asker, script: Script) -> None:
    """It is asked once: the connection was new, so nobody can say that it only had been kept for too long."""
    async with wire(script) as server:
        assert await refused(asker.chat(server.url)) == (503, "chat_unavailable")
        assert len(server.asked) == 1


@pytest.mark.parametrize("model", ["m", ""])
async def test_where_packets_vanish_nobody_waits_for_an_answer(asker: Asker, void: str, model: str) -> None:
    """Only for a connection; where the model has no name yet, once and not twice."""
    chat = asker.chat(void, model=model, connect_timeout_s=0.05)
    assert [await refused(chat) for _ in range(4)] == [(503, "chat_unavailable")] * 4
    assert asker.changes == ["chat_became_unready"]


async def test_a_probe_closes_the_circuit(asker: Asker) -> None:
    """While it is open nobody is asked; each change is logged once."""
    async with wire(WHOLE) as gone:
        pass
    port = int(gone.url.split(":")[2].partition("/")[0])
    chat = asker.chat(gone.url)
    async with watching(chat):
        await eventually(lambda: asker.changes)
        assert not chat.ready
        assert await refused(chat) == (503, "chat_unavailable")
        async with wire(status("200 OK", body=b'{"data":[]}'), WHOLE, port=port) as back:
            await eventually(lambda: chat.ready)
            assert await answer(chat)
            assert back.asked[0][0].startswith(b"GET /v1/models ")
            assert b"Bearer sesame" in back.asked[0][0]
    assert asker.changes == ["chat_became_unready", "chat_became_ready"]


@pytest.mark.parametrize(
    ("line", "alive"),
    [
        *[(line, True) for line in ("200 OK", "403 Forbidden", "404 Not Found", "405 Not Allowed", "429 Too Many")],
        *[(line, False) for line in ("401 Unauthorized", "500 Fault", "503 Loading", "302 Found")],
    ],
)
async def test_what_a_probe_may_be_answered_with(asker: Asker, line: str, alive: bool) -> None:  # noqa: FBT001 - the case
    """Not every server shows everybody a list; one that loads, or to which our key is wrong, answers nobody."""
    async with wire(status(line, "Location: /", body=b"secret")) as server:
        chat = asker.chat(server.url)
        assert not chat.ready, "nobody knows yet"
        async with watching(chat):
            await eventually(lambda: chat.ready if alive else asker.changes)
        assert chat.ready is alive
        assert all(line.get("why", "").startswith("status ") for line in asker.witness.lines)


async def test_a_model_without_a_name_is_called_what_its_server_calls_it(asker: Asker) -> None:
    """Asked for with the first question, and again by probes, since another may be served there one day."""
    first, rest = b'{"data":[{"id":', b'"first"}]}'
    listed: Script = [HEAD, sent(first), *[sent(bytes([byte])) for byte in rest], END]
    other = status("200 OK", body=b'{"data":[{"id":"other"}]}')
    async with wire(listed, WHOLE, other) as server:
        chat = asker.chat(server.url, model="")
        assert (chat.model, bool(await answer(chat)), chat.model) == ("", True, "first")
        assert orjson.loads(server.asked[1][1])["model"] == "first"
        async with watching(chat):
            await eventually(lambda: chat.model == "other")
        named = asker.chat(server.url)
        async with watching(named):
            await eventually(lambda: named.ready)
        assert named.model == "m"


async def test_a_list_of_models_without_an_end_is_not_read_for_ever(asker: Asker) -> None:
    """It is alive, all the same."""
    async with wire([HEAD, Again(sent(b" " * (1 << 18)))], WHOLE) as server:
        chat = asker.chat(server.url, model="")
        assert await answer(chat)
        await eventually(lambda: server.left)


async def test_a_real_model_is_asked(asker: Asker, chat_model: str) -> None:
    """It is found, named, asked, and left in the midst of a long answer, whereupon it has time for the next."""
    chat = asker.chat(f"{chat_model}/v1", model="", key=None, max_tokens=4000)
    async with watching(chat):
        await eventually(lambda: chat.ready and chat.model)
    async with chat.ask([Turn("user", "Count to a thousand.")]) as answered:
        assert isinstance(await anext(answered), Said)
    brief = asker.chat(f"{chat_model}/v1", model="", key=None, max_tokens=5)
    *said, usage = await answer(brief)
    assert all(isinstance(event, Said) and event.text for event in said)
    assert isinstance(usage, Usage)
    assert usage.completion_tokens == 5
    async with asyncio.timeout(LONG_S):
        while await working(asker.http, chat_model):  # noqa: ASYNC110 - it is in another process
            await asyncio.sleep(0.01)
    assert asker.changes == []


async def working(http: aiohttp.ClientSession, base: str) -> bool:
    """Whether a server of llama.cpp has something to do."""
    async with http.get(f"{base}/metrics") as told:
        return "\nllamacpp:requests_processing 0\n" not in await told.text()
