"""Engines and the program itself, killed: who notices, and what is left."""

import asyncio
import signal
from pathlib import Path

import aiohttp
import orjson
import psutil
from program import Program, free_offset, serve, until
from test_local import call, request


async def speak(program: Program, session: aiohttp.ClientSession, text: str) -> tuple[int, int, bool]:
    """Speak; return the status, how many bytes came, and whether the answer broke after it had begun."""
    size = 0
    url = f"http://127.0.0.1:{8200 + program.offset}/v1/audio/speech"
    async with session.post(url, data=request(text, "pcm")) as answer:
        try:
            async for piece in answer.content.iter_any():
                size += len(piece)
        except aiohttp.ClientPayloadError:
            return answer.status, size, True
        return answer.status, size, False


async def keep_speaking(program: Program, stop: asyncio.Event, results: list[tuple[int, int, bool]]) -> None:
    """Speak again and again until told to stop."""
    async with aiohttp.ClientSession() as session:
        while not stop.is_set():
            results.append(await speak(program, session, "The quick brown fox jumps over the lazy dog."))


async def until_async(condition: object, program: Program) -> None:
    """Wait in a thread: the load goes on."""
    await asyncio.to_thread(until, condition, 60)
    assert program.process.poll() is None


async def ready_engines(program: Program) -> int:
    """Ask the status port."""
    (pool,) = orjson.loads((await call(program, 8091, "/status"))[1])["pools"]
    return sum(endpoint["ready"] for endpoint in pool["endpoints"])


async def until_ready(program: Program, count: int) -> None:
    """Wait until so many engines are ready."""
    async with asyncio.timeout(60):
        while await ready_engines(program) != count:  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.02)


async def test_killed_engines_fail_nobody_that_had_not_begun(state_dir: Path) -> None:
    """One, then four, then all; and recovery by itself."""
    with serve(state_dir, "--local") as program:
        await until_ready(program, 5)
        stop, results = asyncio.Event(), []
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(keep_speaking(program, stop, results))
            for number in range(1, 5):
                spoken = len(results)
                # Repeats are within a fifth of the requests: there must be some between one death and the next.
                await until_async(lambda spoken=spoken: len(results) > spoken + 40, program)
                program.engine(number).kill()
            spoken = len(results)
            await until_async(lambda: len(results) > spoken + 6, program)
            stop.set()
        assert {status for status, _, _ in results} == {200}
        assert sum(broke for _, _, broke in results) <= 8  # at most the two slots of each killed engine

        for engine in range(1, 6):
            try:
                program.engine(engine).kill()
            except psutil.NoSuchProcess:
                continue
        status, body = await call(program, 8200, "/v1/audio/speech", request())
        # An engine that had just been started again was faster; or the request met three that were just dying.
        while status in {200, 502}:
            status, body = await call(program, 8200, "/v1/audio/speech", request())
        assert status == 503
        assert orjson.loads(body)["statusCode"] == 503
        assert (await call(program, 8200, "/health"))[0] == 200
        await until_ready(program, 5)
        assert (await call(program, 8200, "/ready"))[0] == 200
        assert (await call(program, 8200, "/v1/audio/speech", request()))[0] == 200
        (pool,) = orjson.loads((await call(program, 8091, "/status"))[1])["pools"]
        assert pool["inflight"] == 0
        assert pool["queue"]["length"] == 0


def test_a_signal_ends_everything_and_a_second_start_works(state_dir: Path) -> None:
    """By Ctrl-C, and by SIGKILL, which the program cannot notice."""
    offset = free_offset()
    for number in (signal.SIGINT, signal.SIGKILL, signal.SIGTERM):
        with serve(state_dir, "--local", offset=offset) as program:
            processes = program.descendants()
            assert len(processes) >= 2
            status = program.end(number)
            assert status == (-signal.SIGKILL if number == signal.SIGKILL else 0), program.text
            until(lambda processes=processes: not any(_lives(process) for process in processes))
        program.output.unlink()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
