"""Owns routes: a method, a path template, and the function that answers.

`get("/greet/{name}", greet)`: the function's annotations declare everything else, and faults in them are found here,
when the route is made. Must not know how a route is served or shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sovren_edge.handler.declaration import Declaration, Function, declare


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of a handler; made by the functions of this module, which check its declaration."""

    method: str
    path: str
    function: Function
    declaration: Declaration


Routes: TypeAlias = Sequence[Route]


def get(path: str, function: Function) -> Route:
    """Make a GET route, which answers HEAD too."""
    return _route("GET", path, function)


def post(path: str, function: Function) -> Route:
    """Make a POST route."""
    return _route("POST", path, function)


def put(path: str, function: Function) -> Route:
    """Make a PUT route."""
    return _route("PUT", path, function)


def patch(path: str, function: Function) -> Route:
    """Make a PATCH route."""
    return _route("PATCH", path, function)


def delete(path: str, function: Function) -> Route:
    """Make a DELETE route."""
    return _route("DELETE", path, function)


def _route(method: str, path: str, function: Function) -> Route:
    return Route(method, path, function, declare(method, path, function))
