"""Stand-ins for a chat model and a speech engine, on one port: tokens and samples come at a pace that no load changes.

What is measured before them is the handler's own. The chat model says three sentences, token by token; the engine gives
a text's samples in pieces of a fifth of a second, at ten times the speed at which they are heard.
"""

import argparse
import asyncio

import orjson
from aiohttp import web

SENTENCES = (
    "The quarter went better than we had planned for. Costs stayed where they were, while three new customers signed. "
    "What I would do next is hire for the support team, since that is where the growth will be felt first."
)
TOKEN_S, FIRST_TOKEN_S = 0.02, 0.2
RATE, SAMPLE_BYTES, CHARACTERS_A_SECOND = 24_000, 2, 15
PIECE_S, PACE = 0.2, 10.0


async def complete(request: web.Request) -> web.StreamResponse:
    """Answer a question."""
    await request.read()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await asyncio.sleep(FIRST_TOKEN_S)
    for word in SENTENCES.split(" "):
        delta = {"choices": [{"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}]}
        await response.write(b"data: " + orjson.dumps(delta) + b"\n\n")
        await asyncio.sleep(TOKEN_S)
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    await response.write(b"data: " + orjson.dumps(end) + b"\n\ndata: [DONE]\n\n")
    return response


async def speak(request: web.Request) -> web.StreamResponse:
    """Speak a text."""
    text = orjson.loads(await request.read())["input"]
    response = web.StreamResponse(headers={"Content-Type": "audio/pcm"})
    await response.prepare(request)
    left_s = len(text) / CHARACTERS_A_SECOND
    while left_s > 0:
        piece_s = min(PIECE_S, left_s)
        await asyncio.sleep(piece_s / PACE)
        await response.write(bytes(int(piece_s * RATE) * SAMPLE_BYTES))
        left_s -= piece_s
    return response


async def list_models(_request: web.Request) -> web.Response:
    """Tell the only model's name."""
    return web.json_response({"data": [{"id": "paced"}]})


async def tell_health(_request: web.Request) -> web.Response:
    """Say that all is well."""
    return web.json_response({"status": "ok"})


def main() -> None:
    """Serve until asked to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    application = web.Application()
    application.router.add_post("/v1/chat/completions", complete)
    application.router.add_post("/v1/audio/speech", speak)
    application.router.add_get("/v1/models", list_models)
    application.router.add_get("/health", tell_health)
    web.run_app(application, host="127.0.0.1", port=parser.parse_args().port, print=None, access_log=None)


if __name__ == "__main__":
    main()
