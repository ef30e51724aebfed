"""Owns asking every open port for its health, and comparing the answers byte for byte.

Must not know how the findings are shown.
"""

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass

import aiohttp

from sovren_edge.config.plan import Plan
from sovren_edge.config.resolved import PlannedListener

TIMEOUT_S = 5.0
_HTTP_OK = 200
_SHOWN_LENGTH = 60
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a port should answer to `GET /health`, and what it did."""

    port: int
    name: str
    expected: str
    found: str
    ok: bool


async def verify(plan: Plan, host: str | None = None) -> tuple[Finding, ...]:
    """Ask all of a plan's listeners at once, at `host` or where they are bound on this machine."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session, asyncio.TaskGroup() as group:
        tasks = [group.create_task(_ask(session, listener, host)) for listener in _by_port(plan.listeners)]
    return tuple(task.result() for task in tasks)


def _by_port(listeners: Iterable[PlannedListener]) -> list[PlannedListener]:
    return sorted(listeners, key=lambda listener: listener.port)


async def _ask(session: aiohttp.ClientSession, listener: PlannedListener, host: str | None) -> Finding:
    address = host or _LOOPBACK.get(listener.bind, listener.bind)
    authority = f"[{address}]" if ":" in address else address
    try:
        # What is asked is whether the port serves; whose name its certificate bears, its callers verify.
        scheme = "http" if listener.settings.tls is None else "https"
        url = f"{scheme}://{authority}:{listener.port}/health"
        async with session.get(url, allow_redirects=False, ssl=False) as answer:
            body = await _read_some(answer.content, len(listener.health) + _SHOWN_LENGTH)
            status = answer.status
    except (aiohttp.ClientError, TimeoutError) as error:
        return _finding(listener, f"unreachable ({_reason(error)})", ok=False)
    text = body.decode(errors="replace")[: max(_SHOWN_LENGTH, len(listener.health))]
    same = body == listener.health
    return _finding(listener, text if status == _HTTP_OK else f"{status} {text}", ok=same and status == _HTTP_OK)


async def _read_some(content: aiohttp.StreamReader, limit: int) -> bytes:
    """Read a body, or the first `limit` bytes of one that a stranger on our port makes long."""
    try:
        return await content.readexactly(limit)
    except asyncio.IncompleteReadError as whole:
        return whole.partial


def _finding(listener: PlannedListener, found: str, *, ok: bool) -> Finding:
    return Finding(listener.port, listener.name, listener.health.decode(), found, ok)


def _reason(error: aiohttp.ClientError | TimeoutError) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:g} s"
    errno = error.errno if isinstance(error, OSError) else None
    # A resolver's error numbers are negative, and not the operating system's.
    return os.strerror(errno) if errno is not None and errno > 0 else type(error).__name__
