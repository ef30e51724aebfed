"""A real chat model for tests, in a process of its own."""

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.ports import free_port

START_S = 60.0


@contextmanager
def temporary_chat_model() -> Iterator[str]:
    """Run the local stack's model on a free port and yield its base URL; it ends with its standard input."""
    port = free_port()
    with start_chat_model(port) as process:
        yield f"http://127.0.0.1:{port}"
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(START_S) == 0


def start_chat_model(port: int) -> "subprocess.Popen[bytes]":
    """Start a model, and return when it can be asked."""
    command = [sys.executable, "-P", "-m", "sovren_edge.local.chat_model", "--port", str(port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + START_S
    while not _is_well(f"http://127.0.0.1:{port}"):
        assert process.poll() is None
        assert time.monotonic() < deadline, "the model was not ready in time"
        time.sleep(0.02)
    return process


def _is_well(url: str) -> bool:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=START_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
