"""Executives as users meet them: a real model and real speech, on their port, and on another one under another name."""

import asyncio
import base64
import io
import json
import wave
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from openai import OpenAI
from program import ROOT, START_S, Program, free_offset, run, serve, until

from tests.executives.talk import events_of

BOARD = """
[listeners.board]
kind = "handler"
node = "g367"
port = 8600
handler = "board"
settings = { max_tokens = 8, speech = "tts-tier1", audio_prefix = "/api" }
"""
QUESTION = {"executiveId": "ceo", "message": "Where should we grow first?"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Run everything that `make run LLM=1` runs, and the same handler once more, as another distribution offers it."""
    folder = tmp_path_factory.mktemp("board")
    info = folder / "site" / "board-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: board\nVersion: 1.0\n", encoding="utf-8")
    offered = "[sovren_edge.handlers]\nboard = handlers.executives.service:Executives\n"
    (info / "entry_points.txt").write_text(offered, encoding="utf-8")
    config = folder / "config.toml"
    config.write_text((ROOT / "config.toml").read_text(encoding="utf-8") + BOARD, encoding="utf-8")
    told = ("--local", "--llm", "--config", str(config))
    env = {"PYTHONPATH": str(folder / "site")}
    with serve(folder / "state", *told, offset=free_offset(config), env=env) as program:
        until(lambda: program.text.count('"event":"endpoint_became_ready"') >= 5)
        yield program


@pytest.fixture
async def founder(stack: Program) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a client that is known as the founder, once the model answers."""
    made = run("token", "--subject", "founder", "--state-dir", stack.state_dir)
    headers = {"Authorization": f"Bearer {made.stdout.split()[-1]}"}
    async with aiohttp.ClientSession(headers=headers) as session, asyncio.timeout(START_S):
        for port in (8250, 8600):
            while (await ready(session, stack, port)) != 200:  # noqa: ASYNC110 - to ask is the condition
                await asyncio.sleep(0.05)
        yield session


async def ready(session: aiohttp.ClientSession, stack: Program, port: int) -> int:
    """Return what a port says of itself."""
    async with session.get(at(stack, port, "/ready")) as answer:
        return answer.status


def at(stack: Program, port: int, path: str) -> str:
    """Return where something is asked for."""
    return f"http://127.0.0.1:{port + stack.offset}{path}"


async def test_a_question_is_answered_in_text_and_speech(stack: Program, founder: aiohttp.ClientSession) -> None:
    """Its speech is a file that any player plays."""
    async with founder.post(at(stack, 8250, "/executives/interact"), json=QUESTION) as answer:
        assert answer.status == 200, await answer.text()
        told = await answer.json()
    assert told["response"]
    async with aiohttp.ClientSession() as page, page.get(at(stack, 8250, told["audio"]["url"])) as audio:
        content = await audio.read()
    with wave.open(io.BytesIO(content)) as file:
        assert file.getnframes() / file.getframerate() == pytest.approx(told["audio"]["duration"], abs=0.001)


async def test_it_comes_as_it_is_made(stack: Program, founder: aiohttp.ClientSession) -> None:
    """Words and sound, and at the end all of it."""
    headers = {"Accept": "text/event-stream"}
    question = QUESTION | {"message": "What did we learn this year?"}
    async with founder.post(at(stack, 8250, "/interact"), json=question, headers=headers) as answer:
        events = [event async for event in events_of(answer)]
    names = [name for name, _ in events]
    assert (names[0], names[-1]) == ("session", "done")
    assert "".join(data["delta"] for name, data in events if name == "text").strip() == events[-1][1]["response"]
    assert any(any(base64.b64decode(data["data"])) for name, data in events if name == "audio")


async def test_one_class_serves_two_ports_by_two_names(stack: Program, founder: aiohttp.ClientSession) -> None:
    """Each with settings of its own, in one process, over the same tables."""
    question = QUESTION | {"message": "What is a good name for a boat?"}
    async with founder.post(at(stack, 8600, "/executives/interact"), json=question) as answer:
        assert answer.status == 200, await answer.text()
        told = await answer.json()
    assert len(told["response"].split()) <= 8
    assert told["audio"]["url"].startswith("/api/executives/audio/")
    async with founder.get(at(stack, 8250, "/executives/activity?limit=1")) as answer:
        assert (await answer.json())["activities"][0]["metadata"] == {"sessionId": told["sessionId"]}
    async with founder.get(at(stack, 8600, "/health")) as answer:
        assert await answer.read() == b'{"status":"ok","service":"board"}'
    async with founder.get(at(stack, 8097, "/metrics")) as answer:
        text = await answer.text()
    for listener in ("executives", "board"):
        assert f'executives_step_seconds_count{{worker="handlers",listener="{listener}",step="whole"}}' in text


async def test_a_briefing_knows_what_the_gateway_tells(stack: Program, founder: aiohttp.ClientSession) -> None:
    """It is asked with the caller's own token."""
    async with founder.post(at(stack, 8250, "/executives/briefing/founder")) as answer:
        assert answer.status == 200, await answer.text()
        told = await answer.json()
    assert told["sources"]["usage"] == "available"
    assert told["audio"]["url"]


async def test_verify_is_green(stack: Program, founder: aiohttp.ClientSession) -> None:
    """For every port of the map that is served."""
    assert not founder.closed
    config = stack.state_dir.parent / "config.toml"
    verified = run("verify", "--local", "--config", config, "--port-offset", str(stack.offset), "--json")
    assert verified.returncode == 0, verified.stdout
    ports = {finding["port"] - stack.offset for finding in json.loads(verified.stdout)}
    assert ports == {8000, 8090, 8091, 8097, 8200, 8201, 8202, 8250, 8300, 8600}


def test_the_official_client_gets_speech(stack: Program) -> None:
    """OpenAI's own, pointed at the balancer."""
    with OpenAI(base_url=at(stack, 8200, "/v1"), api_key="none") as client:
        spoken = client.audio.speech.create(model="tts-1", voice="alloy", input="Good morning.", response_format="wav")
        content = spoken.read()
    assert content[:4] == b"RIFF"
    assert any(content[44:])


async def test_the_document_names_every_path_twice(stack: Program, founder: aiohttp.ClientSession) -> None:
    """With `/executives` before it and without, as rewrites make it; the page shows it."""
    async with founder.get(at(stack, 8250, "/openapi.json")) as answer:
        paths = (await answer.json())["paths"]
    assert {path.removeprefix("/executives") for path in paths} == {
        "/list", "/activity", "/interact", "/audio/{audio_id}", "/briefing/{subscriber_id}", "/pending-approvals",
        "/pending-approvals/{approval_id}/decision",
    }  # fmt: skip
    assert len(paths) == 14
    async with founder.get(at(stack, 8250, "/docs")) as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")


def test_its_model_ends_with_the_program(stack: Program) -> None:
    """As every process of the stack does."""
    models = [one for one in stack.descendants() if "sovren_edge.local.chat_model" in one.cmdline()]
    assert len(models) == 1
    assert stack.end() == 0
    assert not any(one.is_running() for one in models)
    assert Path(stack.state_dir, "logs", "chat-model.log").exists()
