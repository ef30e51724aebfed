"""Call for speech as many do: texts arrive at random, whether or not those before them were answered.

Prints a line of JSON a text: its length, seconds from its planned arrival to the first sample and to the last, and
the silence that its listener heard in between. The same seed sends the same texts at the same times. With `--split`,
callers divide their texts themselves, and ask for up to four parts at once. With `--leave SHARE`, so many callers close
their connections after 0.1 s. With `--callers`, texts come from twenty callers in turn, by X-Sovren-Caller; with
`--greedy`, one more asks for as much as all of them.

`python callers_of_speech.py [--split] [--callers] [--greedy] [--leave SHARE] PORT LOAD SECONDS SEED`
"""

import argparse
import asyncio
import random
import re
import sys
from collections.abc import AsyncIterator, Callable

import orjson
import uvloop
from engine import BYTES_A_SECOND, FIRST_S, RATE, SLOTS, WAV

ENDPOINTS = 5
MEDIAN, SIGMA, LONGEST = 90, 1.0, 4000
SENTENCE = 70
LETTERS = "etaoinshrdlu      "
AT_ONCE = 4
CALLERS = 20
LEAVE_S = 0.1
END_OF_SENTENCE = re.compile(r"(?<=\. )")


def prose(length: int, number: int, dice: random.Random) -> str:
    """Return a unique text of so many characters, in sentences."""
    text = f"Text {number}"
    while len(text) < length:
        words = "".join(dice.choices(LETTERS, k=max(20, round(dice.gauss(SENTENCE, SENTENCE / 3)))))
        text += f" and {words.strip()} there. So"
    return text[:length]


def texts(load: float, seconds: float, seed: int) -> list[tuple[float, str, str]]:
    """Return arrivals, in seconds, texts and callers, that ask for this share of what all slots can do."""
    dice = random.Random(seed)
    lengths = [min(LONGEST, max(1, round(dice.lognormvariate(4.4998, SIGMA)))) for _ in range(20_000)]
    mean_s = FIRST_S + sum(lengths) / len(lengths) / RATE
    rate = load * ENDPOINTS * SLOTS / mean_s
    at, arrivals = 0.0, []
    for number, length in enumerate(lengths):
        at += dice.expovariate(rate)
        if at > seconds:
            break
        arrivals.append((at, prose(length, number, dice), f"caller-{number % CALLERS}"))
    return arrivals


async def samples(port: int, text: str, caller: str) -> AsyncIterator[int]:
    """Ask for a text; yield how many samples came, whenever some did. Raises OSError or EOFError."""
    body = orjson.dumps({"model": "tts-1", "voice": "alloy", "response_format": "wav", "input": text})
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        writer.write(
            b"POST /v1/audio/speech HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nX-Sovren-Caller: %s\r\nContent-Length: %d\r\n\r\n%s"
            % (port, caller.encode(), len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head[:16]:
            raise EOFError
        header = len(WAV)
        async for size in in_chunks(reader) if b"chunked" in head else sized(reader, head):
            passed = min(header, size)
            header -= passed
            if size > passed:
                yield size - passed
    finally:
        writer.close()


async def in_chunks(reader: asyncio.StreamReader) -> AsyncIterator[int]:
    """Read a chunked body; yield the size of each chunk."""
    while line := await reader.readline():
        size = int(line, 16)
        await reader.readexactly(size + 2)
        if not size:
            return
        yield size
    raise EOFError


async def sized(reader: asyncio.StreamReader, head: bytes) -> AsyncIterator[int]:
    """Read a body of a known size, as some proxies make of a short answer; yield the size of what comes."""
    left = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while left:
        data = await reader.read(min(left, 1 << 16))
        if not data:
            raise EOFError
        left -= len(data)
        yield len(data)


async def in_parts(port: int, text: str, caller: str) -> AsyncIterator[int]:
    """Do the same for a caller that divides its text: parts are asked for at once, and heard in their order."""
    parts = END_OF_SENTENCE.split(text)
    allowed = asyncio.Semaphore(AT_ONCE)

    async def whole(part: str) -> int:
        async with allowed:
            return sum([size async for size in samples(port, part, caller)])

    tasks = [asyncio.create_task(whole(part)) for part in parts if part]
    for task in tasks:
        yield await task


Listen = Callable[[int, str, str], AsyncIterator[int]]


async def ask(listen: Listen, port: int, planned: float, text: str, caller: str) -> dict[str, object]:
    """Ask for one text and hear it in real time; return what came of it."""
    now = asyncio.get_running_loop().time
    said: dict[str, object] = {"characters": len(text), "caller": caller, "ttfa_s": None, "whole_s": None}
    heard_until, silence_s = 0.0, 0.0
    try:
        async for size in listen(port, text, caller):
            at = now()
            if not heard_until:
                said["ttfa_s"] = at - planned
                heard_until = at
            silence_s = max(silence_s, at - heard_until)
            heard_until = max(heard_until, at) + size / BYTES_A_SECOND
        said["whole_s"] = now() - planned
    except (OSError, EOFError):
        pass
    said["silence_s"] = silence_s
    return said


async def ask_and_leave(listen: Listen, port: int, planned: float, text: str, caller: str) -> dict[str, object]:
    """Ask, and leave after a tenth of a second."""
    try:
        async with asyncio.timeout(LEAVE_S):
            return await ask(listen, port, planned, text, caller)
    except TimeoutError:
        return {
            "characters": len(text),
            "caller": caller,
            "ttfa_s": None,
            "whole_s": None,
            "silence_s": 0.0,
            "left": True,
        }


async def main(asked: argparse.Namespace) -> None:
    """Send them all, each in its time."""
    loop, dice = asyncio.get_running_loop(), random.Random(asked.seed + 1000)
    arrivals = texts(asked.load, asked.seconds, asked.seed)
    if not asked.callers:
        arrivals = [(at, text, "") for at, text, _ in arrivals]
    if asked.greedy:
        more = texts(asked.load, asked.seconds, asked.seed + 500)
        arrivals = sorted([*arrivals, *((at, f"Greedy {text}", "greedy") for at, text, _ in more)])
    began = loop.time() + 0.2
    tasks = []
    for at, text, caller in arrivals:
        await asyncio.sleep(max(0.0, began + at - loop.time()))
        way = ask_and_leave if dice.random() < asked.leave else ask
        tasks.append(
            asyncio.create_task(way(in_parts if asked.split else samples, asked.port, began + at, text, caller))
        )
    for said in await asyncio.gather(*tasks):
        print(orjson.dumps(said).decode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--split", action="store_true")
    parser.add_argument("--callers", action="store_true")
    parser.add_argument("--greedy", action="store_true")
    parser.add_argument("--leave", type=float, default=0.0)
    for name, kind in (("port", int), ("load", float), ("seconds", float), ("seed", int)):
        parser.add_argument(name, type=kind)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(parser.parse_args(sys.argv[1:])))
