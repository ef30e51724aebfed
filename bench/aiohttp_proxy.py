"""A reverse proxy as one writes it with aiohttp: server, client, streamed both ways, the least loaded endpoint first.

`python aiohttp_proxy.py PORT TLS_PORT CERTIFICATE KEY ENDPOINT_PORT...`
"""

import asyncio
import ssl
import sys
from collections import Counter

import aiohttp
import uvloop
from aiohttp import web

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length", "host"}


def application(endpoints: list[int]) -> web.Application:
    """Make the proxy."""
    inflight: Counter[int] = Counter(dict.fromkeys(endpoints, 0))
    client = web.AppKey("client", aiohttp.ClientSession)

    async def forward(request: web.Request) -> web.StreamResponse:
        port = min(endpoints, key=inflight.__getitem__)
        inflight[port] += 1
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        body = request.content if request.can_read_body else None
        url = f"http://127.0.0.1:{port}{request.raw_path}"
        try:
            async with request.app[client].request(request.method, url, headers=headers, data=body) as answer:
                kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
                response = web.StreamResponse(status=answer.status, headers=kept)
                if answer.content_length is not None:
                    response.content_length = answer.content_length
                await response.prepare(request)
                async for piece in answer.content.iter_any():
                    await response.write(piece)
                await response.write_eof()
                return response
        finally:
            inflight[port] -= 1

    async def start(app: web.Application) -> None:
        app[client] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)

    async def stop(app: web.Application) -> None:
        await app[client].close()

    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", forward)
    app.on_startup.append(start)
    app.on_cleanup.append(stop)
    return app


async def serve(port: int, tls_port: int, certificate: str, key: str, endpoints: list[int]) -> None:
    """Serve until the process is ended."""
    runner = web.AppRunner(application(endpoints), access_log=None)
    await runner.setup()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await web.TCPSite(runner, "127.0.0.1", tls_port, ssl_context=tls).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], list(map(int, sys.argv[5:]))))
