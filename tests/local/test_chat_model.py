"""The real chat model, asked over its port as any OpenAI-compatible server is."""

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import pytest

from sovren_edge.local.engines import Engine
from sovren_edge.local.stack import open_stack
from tests.local.conftest import PATIENCE_S
from tests.local.test_stack import Events, kill
from tests.local_chat import start_chat_model
from tests.ports import free_port

QUESTION = {"role": "user", "content": "How does a company grow?"}
TOOL = {
    "type": "function",
    "function": {"name": "propose", "description": "Propose something", "parameters": {"type": "object"}},
}
SCHEMA = {
    "type": "object",
    "properties": {"action": {"enum": ["buy", "sell"]}, "value": {"type": "integer"}},
    "required": ["action", "value"],
    "additionalProperties": False,
}


def asking(**members: object) -> dict[str, object]:
    """Return a question whose answer is always the same one."""
    return {"messages": [QUESTION], "temperature": 0, "max_tokens": 40, **members}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a client."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE_S)) as session:
        yield session


async def answer(http: aiohttp.ClientSession, url: str, **members: object) -> dict[str, object]:
    """Return the message of a whole answer."""
    async with http.post(f"{url}/v1/chat/completions", json=asking(**members)) as response:
        assert response.status == 200, await response.text()
        message: dict[str, object] = (await response.json())["choices"][0]["message"]
        return message


async def test_an_answer_is_streamed(http: aiohttp.ClientSession, chat_model: str) -> None:
    """In pieces of text; the last event before the end tells what was used, and has no choices."""
    body = asking(stream=True, stream_options={"include_usage": True})
    async with http.post(f"{chat_model}/v1/chat/completions", json=body) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        events = [line[6:].strip() async for line in response.content if line.startswith(b"data: ")]
    *chunks, usage = map(orjson.loads, events[:-1])
    assert events[-1] == b"[DONE]"
    texts = [chunk["choices"][0]["delta"].get("content") for chunk in chunks]
    assert len([text for text in texts if text]) > 5
    assert usage["choices"] == []
    assert usage["usage"]["prompt_tokens"] > 0
    assert 0 < usage["usage"]["completion_tokens"] <= 40


async def test_it_says_what_it_is(http: aiohttp.ClientSession, chat_model: str) -> None:
    """By name; a page of another origin may not read it."""
    async with http.get(f"{chat_model}/v1/models", headers={"Origin": "http://elsewhere.example"}) as response:
        assert [model["id"] for model in (await response.json())["data"]] == ["smollm2-135m-instruct"]
        assert response.headers["Access-Control-Allow-Origin"] == chat_model


async def test_it_knows_no_tools_and_keeps_to_schemas(http: aiohttp.ClientSession, chat_model: str) -> None:
    """It answers as if no tool had been offered, even where one is required; a schema is held token by token."""
    plain = await answer(http, chat_model)
    assert await answer(http, chat_model, tools=[TOOL]) == plain
    assert await answer(http, chat_model, tools=[TOOL], tool_choice="required") == plain
    form = {"type": "json_schema", "json_schema": {"name": "proposal", "schema": SCHEMA}}
    held = orjson.loads(str((await answer(http, chat_model, response_format=form))["content"]))
    assert held["action"] in {"buy", "sell"}
    assert isinstance(held["value"], int)


async def test_a_caller_that_leaves_ends_its_work(http: aiohttp.ClientSession, chat_model: str) -> None:
    """However long the answer would have been."""
    body = asking(stream=True, max_tokens=4000, ignore_eos=True)
    async with http.post(f"{chat_model}/v1/chat/completions", json=body) as response:
        await response.content.readline()
        assert await processing(http, chat_model) == 1
    async with asyncio.timeout(PATIENCE_S):
        while await processing(http, chat_model):  # noqa: ASYNC110 - it is in another process
            await asyncio.sleep(0.01)


async def processing(http: aiohttp.ClientSession, url: str) -> int:
    """Return how many answers are being written."""
    async with http.get(f"{url}/metrics") as response:
        (count,) = re.findall(r"^llamacpp:requests_processing (\d+)$", await response.text(), re.MULTILINE)
        return int(count)


async def test_its_health_is_told_while_many_wait(http: aiohttp.ClientSession, chat_model: str) -> None:
    """They hold no thread that it needs."""
    waiting = [asyncio.ensure_future(answer(http, chat_model, max_tokens=8)) for _ in range(8)]
    async with http.get(f"{chat_model}/health") as response:
        assert await response.json() == {"status": "ok"}
    assert not all(one.done() for one in waiting)
    await asyncio.gather(*waiting)


def test_it_ends_when_it_is_told_to() -> None:
    """At once, also while it writes; Ctrl-C is for the program that started it."""
    port = free_port()
    with start_chat_model(port) as process:
        process.send_signal(signal.SIGINT)
        body = orjson.dumps(asking(max_tokens=4000, ignore_eos=True))
        asked = ["curl", "-s", f"http://127.0.0.1:{port}/v1/chat/completions", "-d", body.decode()]
        with subprocess.Popen(asked, stdout=subprocess.DEVNULL) as caller:
            with pytest.raises(subprocess.TimeoutExpired):
                caller.wait(0.5)
            process.terminate()
            assert process.wait(5) == -signal.SIGTERM


async def test_one_that_dies_is_started_again(tmp_path: Path) -> None:
    """It is an engine of the stack, and ready when it can be asked."""
    events, engine = Events(), Engine("chat-model", free_port(), "chat")
    async with open_stack(tmp_path, [engine], 5432, events.report, os.getpid()):
        await events.until(lambda: engine.ready)
        first = kill(engine.pid)
        await events.until(lambda: ("local_process_died", "chat-model") in events.seen)
        await events.until(lambda: engine.ready)
        assert engine.pid != first
    assert engine.pid is None
    assert (tmp_path / "logs" / "chat-model.log").exists()
