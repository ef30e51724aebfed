"""Call for speech as many do: texts arrive at random, whether or not those before them were answered.

Prints a line of JSON a text: its length, seconds from its planned arrival to the first byte of sound and to the last,
and what came of it. The same seed sends the same texts at the same times.

`python callers_of_speech.py PORT LOAD SECONDS SEED`
"""

import asyncio
import random
import sys

import orjson
import uvloop
from engine import FIRST_S, RATE, SLOTS

ENDPOINTS = 5
MEDIAN, SIGMA, LONGEST = 90, 1.0, 4000
LETTERS = "etaoin shrdlu"


def texts(load: float, seconds: float, seed: int) -> list[tuple[float, str]]:
    """Return arrivals, in seconds, and texts, that ask for this share of what all slots can do."""
    dice = random.Random(seed)
    lengths = [min(LONGEST, max(1, round(dice.lognormvariate(4.4998, SIGMA)))) for _ in range(20_000)]
    mean_s = FIRST_S + sum(lengths) / len(lengths) / RATE
    rate = load * ENDPOINTS * SLOTS / mean_s
    at, arrivals = 0.0, []
    for number, length in enumerate(lengths):
        at += dice.expovariate(rate)
        if at > seconds:
            break
        text = f"{number} " + "".join(dice.choices(LETTERS, k=length))
        arrivals.append((at, text[:length]))
    return arrivals


async def ask(port: int, planned: float, text: str) -> dict[str, object]:
    """Ask for one text; return what came of it."""
    loop = asyncio.get_running_loop()
    body = orjson.dumps({"model": "tts-1", "voice": "alloy", "response_format": "pcm", "input": text})
    said: dict[str, object] = {"characters": len(text), "ttfa_s": None, "whole_s": None, "status": 0}
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /v1/audio/speech HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        said["status"] = int(head.split(b" ")[1])
        data = await reader.read(1)
        said["ttfa_s"] = loop.time() - planned
        while data:
            tail, data = data, await reader.read(1 << 16)
        said["whole_s"] = loop.time() - planned if tail.endswith(b"0\r\n\r\n") else None
        writer.close()
    except (OSError, asyncio.IncompleteReadError):
        said["status"] = 0
    return said


async def main(port: int, load: float, seconds: float, seed: int) -> None:
    """Send them all, each in its time."""
    loop = asyncio.get_running_loop()
    began = loop.time() + 0.2
    tasks = []
    for at, text in texts(load, seconds, seed):
        await asyncio.sleep(max(0.0, began + at - loop.time()))
        tasks.append(asyncio.create_task(ask(port, began + at, text)))
    for said in await asyncio.gather(*tasks):
        print(orjson.dumps(said).decode())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
