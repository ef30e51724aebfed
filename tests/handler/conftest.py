"""What the tests of the plug-in contract share: an application served for real, and the greeter as installed."""

import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from sovren_edge.handler import Routes
from sovren_edge.handler.application import build_application
from tests.handler.stranger import install_greeter
from tests.handler.witness import Client, Serve, Witness


@pytest.fixture
def witness() -> Witness:
    """Return a new witness."""
    return Witness()


@pytest.fixture
def serve(aiohttp_client: Callable[[TestServer], Awaitable[Client]], witness: Witness) -> Serve:
    """Return a way to serve routes on a free port, with options of `build_application`.

    `cancelling` is aiohttp's choice of ending a function whose caller has left.
    """

    async def start(routes: Routes, *, cancelling: bool = True, **options: Any) -> Client:  # noqa: ANN401 - handed on as they are
        given: dict[str, Any] = {
            "title": "Test",
            "version": "1.0",
            "log": witness.log,
            "observe": witness.observe,
        } | options
        return await aiohttp_client(TestServer(build_application(routes, **given), handler_cancellation=cancelling))

    return start


@pytest.fixture(scope="session")
def greeter_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory in which the greeter is installed."""
    directory = tmp_path_factory.mktemp("greeter")
    install_greeter(directory)
    return directory


@pytest.fixture
def greeter(greeter_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the greeter installed for one test."""
    monkeypatch.syspath_prepend(greeter_directory)
    yield
    for name in [name for name in sys.modules if name.startswith("sovren_edge_greeter")]:
        del sys.modules[name]
