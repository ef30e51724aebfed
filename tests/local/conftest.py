"""Ports and engines for the tests of the local stack."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port

PATIENCE_S = 60.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds; fail if it does not in time."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def listens(port: int) -> bool:
    """Whether a connection to this port is accepted."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()
    except OSError:
        return False
    return True


def start_engine(port: int) -> "subprocess.Popen[bytes]":
    """Start an engine and return when it is ready."""
    command = [sys.executable, "-m", "sovren_edge.local.engine", "--port", str(port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    wait_until(lambda: process.poll() is not None or listens(port))
    assert process.poll() is None
    return process


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Yield a directory whose path is short enough for sockets in it, wherever tests have theirs."""
    with tempfile.TemporaryDirectory(prefix="local-") as directory:
        yield Path(directory)


@contextmanager
def running_engine() -> Iterator[int]:
    """Yield the port of an engine of one's own; it ends with its standard input."""
    port = free_port()
    with start_engine(port) as process:
        yield port
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0


@pytest.fixture(scope="session")
def engine_port() -> Iterator[int]:
    """Yield the port of one engine for all tests."""
    with running_engine() as port:
        yield port
