"""Owns asking endpoints for their health, each on a fresh connection.

Must not know what follows from an answer: the pool decides that.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Protocol

import aiohttp

from pools.endpoint import Endpoint
from pools.health import OURS, REFUSED_INTERVAL_S, ProbeResult
from pools.pool import Pool

_GOOD = range(200, 300)
BODY_LIMIT = 65536


class OnProbe(Protocol):
    """Takes one probe's result."""

    def __call__(self, pool: Pool, endpoint: Endpoint, result: ProbeResult, /) -> None:
        """Act on what was found."""


async def watch_endpoint(pool: Pool, endpoint: Endpoint, client: aiohttp.ClientSession, on_probe: OnProbe) -> None:
    """Probe one endpoint until cancelled."""
    while True:
        result = await probe(endpoint, client)
        if result is not None:
            on_probe(pool, endpoint, result)
        waited_s = 0.0
        # In short steps: a connect that fails meanwhile shortens the interval.
        while waited_s < endpoint.health.interval_s:
            step_s = min(REFUSED_INTERVAL_S, endpoint.health.interval_s)
            await asyncio.sleep(step_s)
            waited_s += step_s


async def probe(endpoint: Endpoint, client: aiohttp.ClientSession) -> ProbeResult | None:
    """Ask once; None if this machine could not even ask; a redirect is no answer, and only 2xx is good."""
    scheme = "http" if endpoint.tls is None else "https"
    url = f"{scheme}://{endpoint.address.decode()}{endpoint.probe.path}"
    asked = client.get(
        url, allow_redirects=False, ssl=endpoint.tls or True, server_hostname=endpoint.server_name or None
    )
    try:
        async with asyncio.timeout(endpoint.probe.timeout_s), asked as answer:
            if answer.status not in _GOOD:
                return ProbeResult.BAD
            unhealthy = endpoint.probe.unhealthy
            return ProbeResult.BAD if unhealthy and _says(await _read(answer), unhealthy) else ProbeResult.GOOD
    except TimeoutError:
        return ProbeResult.TIMED_OUT
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError):
        return ProbeResult.UNTRUSTED
    except aiohttp.ClientConnectorError as error:
        return None if error.os_error.errno in OURS else ProbeResult.REFUSED
    except aiohttp.ClientError:
        return ProbeResult.BAD


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > BODY_LIMIT:
            break
    return body


def _says(body: bytes, members: Mapping[str, object]) -> bool:
    """Whether a JSON object has any of these members; a body that is none says nothing."""
    try:
        said = json.loads(body)
    except ValueError:
        return False
    return isinstance(said, dict) and any(name in said and said[name] == value for name, value in members.items())


def open_client() -> aiohttp.ClientSession:
    """Make the session that probes use: no connection is ever used twice, no proxy, no cookies."""
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
