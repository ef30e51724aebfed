"""The plug-in contract: all that a business service may know of the program that it is plugged into.

A service imports this name and nothing below it. docs/writing-a-handler.md shows one from its first line to its port.
"""

from aiohttp.web import Request, Response, StreamResponse

from sovren_edge.auth.tokens import Identity
from sovren_edge.errors import EdgeError, Problem, Side, StartupError
from sovren_edge.handler import route
from sovren_edge.handler.contract import Handler
from sovren_edge.handler.declaration import EventStream, Header, RawQuery
from sovren_edge.handler.edge import Clock, Edge
from sovren_edge.handler.route import Route, Routes
from sovren_edge.handler.service import Service
from sovren_edge.observe.registry import Metrics
from sovren_edge.secret import Secret
from sovren_edge.store.connection import Connection
from sovren_edge.store.database import Database

__all__ = [
    "Clock",
    "Connection",
    "Database",
    "Edge",
    "EdgeError",
    "EventStream",
    "Handler",
    "Header",
    "Identity",
    "Metrics",
    "Problem",
    "RawQuery",
    "Request",
    "Response",
    "Route",
    "Routes",
    "Secret",
    "Service",
    "Side",
    "StartupError",
    "StreamResponse",
    "route",
]
