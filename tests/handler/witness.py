"""Keeps what an application under test logged and observed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import structlog
from aiohttp import web
from aiohttp.test_utils import TestClient
from structlog.testing import LogCapture
from structlog.typing import FilteringBoundLogger

Client: TypeAlias = TestClient[web.Request, web.Application]
Serve: TypeAlias = Callable[..., Awaitable[Client]]


@dataclass
class Witness:
    """`observed` has each request's method, route template and status; `ended` is set with the first."""

    capture: LogCapture = field(default_factory=LogCapture)
    observed: list[tuple[str, str, int]] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def log(self) -> FilteringBoundLogger:
        """A logger that keeps its lines."""
        logger: FilteringBoundLogger = structlog.wrap_logger(
            structlog.PrintLogger(),
            processors=[self.capture],
            wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        )
        return logger

    @property
    def lines(self) -> list[Any]:
        """What was logged."""
        return self.capture.entries

    def observe(self, request: web.Request, template: str, status: int, seconds: float) -> None:
        """Keep one request's end."""
        assert seconds >= 0
        self.observed.append((request.method, template, status))
        self.ended.set()
