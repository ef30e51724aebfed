"""Ask executives: how soon they are heard, what the handler adds to model and speech, and what a crowd costs.

With the local model and the local engines, on a core each: first audio beside the first sentence's text, and beside
calling the model and then the speech for its whole answer, one after the other. Then 200 answers at once, streamed,
before stand-ins that keep a pace of their own. Prints a table; fails where a figure is not met.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
from conversation import Heard, ask, sentences_of
from evidence import get
from processes import BenchError, require_free, run, started, wait_until

from handlers.executives.completion import Turn
from handlers.executives.persona import turns
from handlers.executives.proposal import TOOL
from handlers.executives.roster import Executive

HERE = Path(__file__).parent
PROGRAM = str(Path(sys.executable).with_name("sovren-edge"))
EDGE_CORE, OTHER_CORE = 0, 1
OFFSET = 13_000
BOARD, SPEECH, ALL, MODEL = 8250 + OFFSET, 8200 + OFFSET, 8097 + OFFSET, 8110 + OFFSET
PACED = 19_770
START_S, PATIENCE_S, MEMORY_S = 60.0, 180.0, 0.2
# What is asked for.
LATE_MS, EARLIER, CROWD_MB = 300.0, 0.40, 300.0
LEAST_SENTENCES, MAX_TOKENS = 3, 400
CEO = Executive(
    id="ceo", name="Evelyn Marchetti", role="CEO", department="Executive", status="active", capabilities=(),
    voice="sage",
    persona="You lead the board and weigh what the others say. You care for the one thing that matters most this week, "
    "and you name it first. You speak calmly and decide clearly.",
)  # fmt: skip
CROWD_CONFIG = f"""
[pools.engines]
kind = "speech"
endpoints = ["127.0.0.1:{PACED}"]
slots = 512

[listeners.tts-master]
kind = "balance"
port = 8200
pool = "engines"

[listeners.executives]
kind = "handler"
port = 8250
handler = "executives"
settings = {{ chat_url = "http://127.0.0.1:{PACED}/v1" }}

[listeners.all]
kind = "status"
port = 8097
"""
QUESTIONS = (
    "What should we do first about hiring?", "How do we keep our best customers?", "Where would you save money?",
    "What makes a good product launch?", "How do we prepare for an audit?", "What should the team learn this year?",
    "How do we price a new service?", "When is it time to open a second office?", "How should we answer a bad review?",
    "What do investors want to hear?",
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A running program."""

    work: Path
    process: subprocess.Popen[bytes]

    @property
    def token(self) -> str:
        """Return what names the founder."""
        command = [PROGRAM, "token", "--subject", "founder", "--state-dir", str(self.work / "state")]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]

    def memory_mb(self) -> float:
        """Return what the handlers' worker holds."""
        for line in get(ALL, "/metrics")[1].decode().splitlines():
            if line.startswith('process_resident_memory_bytes{worker="handlers"}'):
                return float(line.split()[-1]) / 1e6
        raise BenchError("the handlers' worker tells nothing of its memory")


@contextmanager
def serving(work: Path, *arguments: str) -> Iterator[Place]:
    """Run the program with its local stack until the block ends; it is ready when the block begins."""
    command = [
        PROGRAM,
        "serve",
        "--local",
        "--state-dir",
        str(work / "state"),
        "--port-offset",
        str(OFFSET),
        *arguments,
    ]
    with started(command, EDGE_CORE, work / "edge.out") as process:
        if not wait_until(lambda: get(BOARD, "/ready")[0] == 200 and get(SPEECH, "/ready")[0] == 200, START_S):
            raise BenchError(f"the program did not become ready: see {work}/edge.out")
        yield Place(work, process)


def asked(number: int) -> dict[str, object]:
    """Return a question that nobody has asked before."""
    return {"executiveId": "ceo", "message": f"{QUESTIONS[number % len(QUESTIONS)]} ({number})"}


def session_for(token: str) -> aiohttp.ClientSession:
    """Return a client that is known by its token, and has as many connections as it wants."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        headers={"Authorization": f"Bearer {token}"},
        timeout=aiohttp.ClientTimeout(total=PATIENCE_S),
    )


# ------------------------------------------------------------------------------------------------------------ a crowd


async def crowd(place: Place, token: str, callers: int, rounds: int) -> tuple[list[Heard], float]:
    """Have so many answers made at once, again and again; return them, and the most memory that was held (MB)."""
    most = [0.0]

    async def watch() -> None:
        while True:
            most.append(await asyncio.to_thread(place.memory_mb))
            await asyncio.sleep(MEMORY_S)

    watching = asyncio.ensure_future(watch())
    url = f"http://127.0.0.1:{BOARD}/executives/interact"
    found: list[Heard] = []
    async with session_for(token) as session:
        for number in range(rounds):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(session, url, asked(number * callers + one))) for one in range(callers)]
            found += [task.result() for task in tasks]
    watching.cancel()
    return found, max(most)


def measure_crowd(work: Path, callers: int, rounds: int) -> bool:
    """Measure a crowd; return whether it is within what is asked for."""
    (work / "config.toml").write_text(CROWD_CONFIG, encoding="utf-8")
    paced = [sys.executable, str(HERE / "paced.py"), "--port", str(PACED)]
    with started(paced, OTHER_CORE, work / "paced.out"), serving(work, "--config", str(work / "config.toml")) as place:
        before = place.memory_mb()
        os.sched_setaffinity(0, {OTHER_CORE})
        found, most = asyncio.run(crowd(place, place.token, callers, rounds))
        os.sched_setaffinity(0, {EDGE_CORE, OTHER_CORE})
    firsts = sorted(heard.first_audio_s or PATIENCE_S for heard in found)
    print(f"\n{callers} answers at once, {rounds} times: {len(found)} answered, none failed")
    print(f"  memory of the handlers' worker: {before:.0f} MB before, at most {most:.0f} MB")
    print(f"  first audio: p50 {statistics.median(firsts):.2f} s, p99 {firsts[len(firsts) * 99 // 100]:.2f} s")
    return most < CROWD_MB


# ------------------------------------------------------------------------------------------------- model and engines


def pin_apart(place: Place) -> None:
    """Give the model one core and the engines the other; the program may have both."""
    for process in psutil.Process(place.process.pid).children(recursive=True):
        command = " ".join(process.cmdline())
        cores = {EDGE_CORE} if "chat_model" in command else {OTHER_CORE} if "local.engine" in command else None
        for thread in process.threads():
            os.sched_setaffinity(thread.id, cores or {EDGE_CORE, OTHER_CORE})


async def one_after_the_other(session: aiohttp.ClientSession, told: Sequence[Turn]) -> tuple[float, str]:
    """Ask the model, then have its whole answer spoken; return when the first audio came, and the answer."""
    messages = [{"role": turn.role, "content": turn.content} for turn in told]
    asked_for = {"model": "", "messages": messages, "max_tokens": MAX_TOKENS, "tools": [TOOL]}
    began = time.monotonic()
    async with session.post(f"http://127.0.0.1:{MODEL}/v1/chat/completions", json=asked_for) as answer:
        text: str = (await answer.json())["choices"][0]["message"]["content"]
    body = {"model": "tts-1", "input": text, "voice": CEO.voice, "response_format": "pcm"}
    async with session.post(f"http://127.0.0.1:{SPEECH}/v1/audio/speech", json=body) as answer:
        if not await answer.content.readany():
            raise BenchError(f"nothing was spoken (status {answer.status})")
    return time.monotonic() - began, text


async def converse(token: str, rounds: int) -> tuple[list[Heard], list[tuple[float, float]]]:
    """Ask the board and, in turns with it, the model and the speech themselves.

    Return the board's answers, and when both ways were heard, of questions that both answered at length.
    """
    url = f"http://127.0.0.1:{BOARD}/executives/interact"
    streamed: list[Heard] = []
    both: list[tuple[float, float]] = []
    async with session_for(token) as session:
        for number in range(rounds):
            question = asked(number)
            streamed.append(await ask(session, url, question))
            first_audio_s, text = await one_after_the_other(
                session, turns(CEO, (), str(question["message"]), proposes=True)
            )
            if min(len(sentences_of(text)), streamed[-1].sentences) >= LEAST_SENTENCES:
                both.append((streamed[-1].first_audio_s or PATIENCE_S, first_audio_s))
    return streamed, both


def measure_model(work: Path, rounds: int) -> bool:
    """Measure with the real model and engines; return whether all is as soon as it is asked for."""
    with serving(work, "--llm") as place:
        pin_apart(place)
        streamed, both = asyncio.run(converse(place.token, rounds))
    late = [(one.first_audio_s or PATIENCE_S) - (one.first_sentence_s or 0.0) for one in streamed]
    if not both:
        raise BenchError("no question had two answers of three sentences: ask more of them")
    late_ms, (ours, theirs) = statistics.median(late) * 1000, map(statistics.median, zip(*both, strict=True))
    print(f"\nlocal model and engines, {rounds} answers each way")
    print(f"  first audio behind the first sentence's text: p50 {late_ms:.0f} ms, worst {max(late) * 1000:.0f} ms")
    print(f"  {len(both)} questions with two answers of {LEAST_SENTENCES} sentences or more, first audio p50:")
    print(f"  {ours:.2f} s here, {theirs:.2f} s from model, then speech: {1 - ours / theirs:.0%} earlier")
    return late_ms <= LATE_MS and 1 - ours / theirs >= EARLIER


def main() -> int:
    """Measure; return 0 if every figure is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="questions to the real model")
    parser.add_argument("--callers", type=int, default=200, help="answers at once before stand-ins")
    parser.add_argument("--crowds", type=int, default=3, help="how often")
    parser.add_argument("--only", choices=("model", "crowd"))
    arguments = parser.parse_args()
    require_free((BOARD, SPEECH, ALL, MODEL, PACED))
    met = []
    for name, measure in (
        ("crowd", lambda work: measure_crowd(work, arguments.callers, arguments.crowds)),
        ("model", lambda work: measure_model(work, arguments.rounds)),
    ):
        work = Path(tempfile.mkdtemp(prefix="bench-executives-"))
        if arguments.only in {None, name}:
            met.append(measure(work))
        shutil.rmtree(work)
    print("\nevery figure is met" if all(met) else "\nNOT every figure is met")
    return 0 if all(met) else 1


if __name__ == "__main__":
    run(main)
