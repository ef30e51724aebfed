"""Owns asking a running program, through its admin socket.

Must not know what a question means, nor how an answer is shown.
"""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from sovren_edge.cli.options import find_state_dir
from sovren_edge.errors import StartupError
from sovren_edge.local.socket_dir import admin_socket

TIMEOUT_S = 5.0
_ERRORS = 400


def find_program(state_dir: Path | None, *, local: bool) -> Path:
    """Return the admin socket of the program that a command is about."""
    return admin_socket(find_state_dir(state_dir, local=local))


def give(
    method: str,
    path: str,
    body: Mapping[str, object] | None,
    state_dir: Path | None,
    *,
    local: bool,
    timeout_s: float = TIMEOUT_S,
) -> Any:  # noqa: ANN401 - whatever JSON knows
    """Give a running program one command; return its answer. StartupError has its error, or says that there is none."""
    return asyncio.run(ask(find_program(state_dir, local=local), method, path, body, timeout_s=timeout_s))


def change_path(endpoint: str) -> str:
    """Return where an endpoint is changed."""
    return f"/endpoints/{quote(endpoint, safe='')}"


async def ask(
    where: Path, method: str, path: str, body: Mapping[str, object] | None = None, *, timeout_s: float = TIMEOUT_S
) -> Any:  # noqa: ANN401 - whatever JSON knows
    """Do what `give` does, for a program whose socket is known."""
    try:
        answer, status = await _exchange(where, method, path, body, timeout_s)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        advice = "is it running? --local and --state-dir say which one is meant"
        raise StartupError(f"no program answers at {where} ({type(error).__name__}): {advice}") from None
    if status >= _ERRORS:
        raise StartupError(str(answer["detail"]))
    return answer


async def _exchange(
    where: Path, method: str, path: str, body: Mapping[str, object] | None, timeout_s: float
) -> tuple[Any, int]:
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    connector = aiohttp.UnixConnector(path=str(where))
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
        session.request(method, f"http://admin{path}", json=body) as answer,
    ):
        return json.loads(await answer.read()), answer.status
