"""An admin socket that answers as a running program does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from program_told import Told


class Answering:
    """What it tells, and what it was told to change."""

    def __init__(self, told: Told | str) -> None:
        self.told = told
        self.looks = 0
        self.asked = asyncio.Event()
        self.changes: list[tuple[str, object]] = []

    async def top(self, _request: web.Request) -> web.Response:
        """Tell everything."""
        self.looks += 1
        self.asked.set()
        return web.Response(text=self.told) if isinstance(self.told, str) else web.json_response(self.told)

    async def change(self, request: web.Request) -> web.Response:
        """Take a change of an endpoint."""
        name = request.match_info["endpoint"]
        if name == "gone":
            return web.json_response({"detail": "No endpoint is named gone."}, status=404)
        self.changes.append((name, await request.json()))
        return web.json_response({})


@asynccontextmanager
async def answering(directory: Path, told: Told | str) -> AsyncIterator[Answering]:
    """Answer in a state directory until the block ends."""
    answers = Answering(told)
    app = web.Application()
    app.add_routes([web.get("/top", answers.top), web.patch("/endpoints/{endpoint}", answers.change)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.UnixSite(runner, directory / "admin.sock").start()
    try:
        yield answers
    finally:
        await runner.cleanup()
        (directory / "admin.sock").unlink(missing_ok=True)
