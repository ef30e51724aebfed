"""Serve speech engines that are models: five ports, two slots each, sound at a rate that a text's length decides.

A text costs `FIRST_S` and a second for each 1,200 characters; sound flows meanwhile, or comes at the end (`--whole`).
`--noisy` multiplies each cost by a lognormal factor and makes digits dearer than letters. What exceeds the slots
waits in the engine, first come, first served. `python engine.py [--whole] [--noisy] PORT...`
"""

import argparse
import asyncio
import random
from functools import partial

import orjson
import uvloop

FIRST_S, RATE = 0.0125, 1200.0
SLOTS = 2
PIECE_S = 0.05
PIECE = b"960\r\n" + b"\0" * 2400 + b"\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: audio/pcm\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Engine:
    """One port's engine; it stops working on a text when its caller leaves."""

    def __init__(self, *, whole: bool, noisy: bool, seed: int) -> None:
        self.slots = asyncio.Semaphore(SLOTS)
        self.whole = whole
        self.noisy = noisy
        self.dice = random.Random(seed)

    def cost_s(self, text: str) -> float:
        """Return the seconds of work behind the first ones."""
        if not self.noisy:
            return len(text) / RATE
        digits = sum(letter.isdigit() for letter in text)
        return (len(text) + 2 * digits) / RATE * self.dice.lognormvariate(0.0, 0.4)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests on one connection until it ends."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or b"0")
                body = await reader.readexactly(size)
                if not size:
                    writer.write(OK)
                    continue
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
            now = asyncio.get_running_loop().time
            at = now() + FIRST_S
            end = at + self.cost_s(text)
            if self.whole:
                await asyncio.sleep(end - now())
                writer.write(HEAD + PIECE + b"0\r\n\r\n")
                return
            await asyncio.sleep(FIRST_S)
            writer.write(HEAD + PIECE)
            while at < end:
                # Until a point in time: sleeps that are each a little long would add up.
                at = min(at + PIECE_S, end)
                await asyncio.sleep(at - now())
                writer.write(PIECE)
            writer.write(b"0\r\n\r\n")


async def main(ports: list[int], *, whole: bool, noisy: bool) -> None:
    """Serve until the process is ended."""
    for port in ports:
        engine = Engine(whole=whole, noisy=noisy, seed=port)
        await asyncio.start_server(partial(Engine.serve, engine), "127.0.0.1", port, limit=1 << 20)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--noisy", action="store_true")
    parser.add_argument("ports", type=int, nargs="+")
    asked = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(asked.ports, whole=asked.whole, noisy=asked.noisy))
