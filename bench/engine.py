"""Serve speech engines that are models: five ports, two slots each, sound at a rate that a text's length decides.

A text costs `FIRST_S` and a second for each 1,200 characters; sound flows meanwhile, or comes at the end (`--whole`).
`--noisy` multiplies each cost by a lognormal factor and makes digits dearer than letters; with `--crowded` slots slow
each other; with `--slow` the first port's engine has 40 % of the others' speed; with `--failing` each breaks half of
the connections instead of answering. What exceeds the slots waits in the engine, first come, first served. The sound
is wav of 1,000 bytes a second, for a fifteenth of a second a character. A GET of /stats tells how often all were asked,
and how many seconds they worked for callers who left. `python engine.py [--whole] [--noisy] ... PORT...`
"""

import argparse
import asyncio
import random
import struct
from dataclasses import dataclass
from functools import partial

import orjson
import uvloop

FIRST_S, RATE = 0.0125, 1200.0
SLOTS = 2
CROWDED_FIRST_S, CROWDED_LOSS = 0.15, 0.4
PIECE_S = 0.05
BYTES_A_SECOND, BYTES_A_CHARACTER = 1000, 67
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nTransfer-Encoding: chunked\r\n\r\n"
WAV = (
    b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, BYTES_A_SECOND, BYTES_A_SECOND, 1, 8)
    + b"data\xff\xff\xff\xff"
)  # fmt: skip
SLOW, FAILURES = 0.4, 0.5
NOISE = 0.4


@dataclass
class Kind:
    """What the engines of this process are like, and what they have done together."""

    whole: bool = False
    noisy: bool = False
    crowded: bool = False
    failing: bool = False
    asked: int = 0
    wasted_s: float = 0.0


class Engine:
    """One port's engine; it stops working on a text when its caller leaves."""

    def __init__(self, kind: Kind, *, speed: float, seed: int) -> None:
        self.slots = asyncio.Semaphore(SLOTS)
        self.running = 0
        self.kind = kind
        self.whole, self.noisy, self.crowded = kind.whole, kind.noisy, kind.crowded
        self.speed = speed
        self.dice = random.Random(seed)

    def cost_s(self, text: str) -> float:
        """Return the seconds of work behind the first ones."""
        if not self.noisy:
            return len(text) / RATE / self.speed
        digits = sum(letter.isdigit() for letter in text)
        # On average as dear as the others', for texts of which one letter in fifty is a digit.
        return (len(text) + 2 * digits) / (1 + 2 / 50) / RATE * self.dice.lognormvariate(-(NOISE**2) / 2, NOISE)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests on one connection until it ends."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or b"0")
                body = await reader.readexactly(size)
                if not size:
                    stats = b"%d %.3f" % (self.kind.asked, self.kind.wasted_s)
                    said = stats if b" /stats " in head else b"ok"
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said))
                    continue
                self.kind.asked += 1
                if self.kind.failing and self.dice.random() < FAILURES:
                    return
                speaking = asyncio.ensure_future(self.speak(orjson.loads(body)["input"], writer))
                leaving = asyncio.ensure_future(reader.read(1))
                await asyncio.wait({speaking, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not speaking.done():
                    speaking.cancel()
                    return
                leaving.cancel()
                await asyncio.gather(leaving, return_exceptions=True)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def speak(self, text: str, writer: asyncio.StreamWriter) -> None:
        """Hold a slot and speak."""
        async with self.slots:
            self.running += 1
            began = asyncio.get_running_loop().time()
            try:
                await self.sound(text, writer)
            except asyncio.CancelledError:
                self.kind.wasted_s += asyncio.get_running_loop().time() - began
                raise
            finally:
                self.running -= 1

    async def sound(self, text: str, writer: asyncio.StreamWriter) -> None:
        """Send a text's sound, as much as has been made by then, or all of it at the end."""
        now = asyncio.get_running_loop().time
        at = now() + (CROWDED_FIRST_S if self.crowded else FIRST_S)
        await asyncio.sleep(at - now())
        left = cost = self.cost_s(text)
        size = len(text) * BYTES_A_CHARACTER
        sent, pieces = 0, [HEAD, chunk(WAV)]
        while left > 0:
            speed = 1 / (1 + CROWDED_LOSS * (self.running - 1)) if self.crowded else 1.0
            step = min(PIECE_S, left / speed)
            # Until a point in time: sleeps that are each a little long would add up.
            at += step
            if not self.whole and not sent:
                # Sound begins at once, as streaming engines do; the rest comes as it is made.
                pieces.append(chunk(b"\0"))
                sent = 1
            writer.writelines(pieces if not self.whole else [])
            pieces = pieces if self.whole else []
            await asyncio.sleep(at - now())
            left -= step * speed
            due = size if left <= 0 else int(size * (1 - left / cost))
            if due > sent:
                pieces.append(chunk(bytes(due - sent)))
                sent = due
        writer.writelines([*pieces, b"0\r\n\r\n"])


def chunk(data: bytes) -> bytes:
    """Frame some of an answer."""
    return b"%x\r\n%s\r\n" % (len(data), data)


async def main(ports: list[int], kind: Kind, *, slow: bool) -> None:
    """Serve until the process is ended."""
    for port in ports:
        engine = Engine(kind, speed=SLOW if slow and port == ports[0] else 1.0, seed=port)
        await asyncio.start_server(partial(Engine.serve, engine), "127.0.0.1", port, limit=1 << 20)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for flag in ("whole", "noisy", "crowded", "failing", "slow"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("ports", type=int, nargs="+")
    asked = parser.parse_args()
    kind = Kind(asked.whole, asked.noisy, asked.crowded, asked.failing)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(asked.ports, kind, slow=asked.slow))
