"""Owns the engine's process: its arguments and its end.

Must not know what is served.
"""

import argparse
import asyncio
import signal
import sys

from sovren_edge.local.engine.server import open_server
from sovren_edge.local.engine.speaker import open_speaker
from sovren_edge.local.leash import take_leash


def main() -> None:
    """Serve speech until SIGTERM, or until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m sovren_edge.local.engine", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    take_leash()
    try:
        asyncio.run(_serve(arguments.host, arguments.port))
    except OSError as error:
        sys.exit(f"cannot listen on {arguments.host}:{arguments.port}: {error.strerror or error}")


async def _serve(host: str, port: int) -> None:
    async with open_speaker() as speaker:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        async with open_server(speaker, host, port):
            await ended.wait()


if __name__ == "__main__":
    main()
