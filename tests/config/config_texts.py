"""Texts that several tests of the configuration begin from."""

METADATA = "Metadata-Version: 2.1\nName: edge-echo\nVersion: 1.0\n"

HANDLER = """
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from pydantic import BaseModel, HttpUrl

from sovren_edge.handler import Edge, Handler, Routes, Secret, Service


class Voice(BaseModel, extra="forbid"):
    speed: float
    token: Secret


class Echo(Handler):
    migrations: ClassVar[str | None] = "edge_echo_tables"

    url: HttpUrl
    key: Secret | None = None
    voice: Voice | None = None
    speech: Service = "nobody"

    @asynccontextmanager
    async def open(self, edge: Edge) -> AsyncIterator[Routes]:
        yield []
"""

MINIMAL = """
[pools.speech]
endpoints = ["10.0.0.9:80"]

[listeners.door]
kind = "balance"
port = 8090
pool = "speech"
auth = "none"
"""

TWO_NODES = """
[nodes]
left = "10.0.0.1"
right = "10.0.0.2"

[pools.engines]
kind = "speech"
endpoints = ["left:8100", "left:8101"]
local = "speech"

[pools.far]
endpoints = ["10.9.9.9:8000", "[::1]:7000", "localhost:7001"]

[pools.inner]
tiers = ["far", "engines"]

[pools.speech]
tiers = ["engines", "inner"]

[pools.unused]
endpoints = ["10.0.0.9:80"]

[listeners.door]
kind = "balance"
node = "left"
port = 8200
pool = "speech"
auth = "none"

[listeners.silent]
kind = "status"
node = "right"
port = 8201
service = ""
auth = "none"

[listeners.later]
kind = "gateway"
node = "left"
port = 8300
planned = true
"""

ECHO = """
[listeners.echo]
kind = "handler"
port = 8600
handler = "echo"
auth = "none"
"""
