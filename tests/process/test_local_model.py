"""What `make run LLM=1` starts: the executives answer with a model of the local stack."""

import asyncio
from collections.abc import Iterator

import aiohttp
import pytest
from program import START_S, Program, free_offset, run, serve

CONFIG = """
[services]
chat = "http://127.0.0.1:1"

[listeners.executives]
kind = "handler"
port = 8250
handler = "executives"
"""


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Run the executives and their model, without speech."""
    folder = tmp_path_factory.mktemp("board")
    config = folder / "config.toml"
    config.write_text(CONFIG, encoding="utf-8")
    told = ("--local", "--llm", "--config", str(config))
    with serve(folder / "state", *told, offset=free_offset(config)) as program:
        yield program


async def test_a_question_is_answered_by_the_model_of_the_stack(board: Program) -> None:
    """In the place of the one that the file names; its log is with those of the other local processes."""
    token = run("token", "--subject", "founder", "--state-dir", board.state_dir).stdout.splitlines()[-1]
    url = f"http://127.0.0.1:{8250 + board.offset}/executives/interact"
    question = {"executiveId": "ceo", "message": "Where should we grow first?"}
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
        asyncio.timeout(START_S),
    ):
        while True:
            async with session.post(url, json=question) as answer:
                if answer.status == 200:
                    assert (await answer.json())["response"]
                    break
                # It is still starting.
                assert answer.status == 503, await answer.text()
            await asyncio.sleep(0.05)
    assert (board.state_dir / "logs" / "chat-model.log").exists()


def test_it_ends_with_the_program(board: Program) -> None:
    """As every process of the stack does."""
    models = [one for one in board.descendants() if "sovren_edge.local.chat_model" in one.cmdline()]
    assert len(models) == 1
    assert board.end() == 0
    assert not any(one.is_running() for one in models)
