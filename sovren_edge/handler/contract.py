"""Owns what a business service is: settings, and a life in which its routes are served.

Must not know how handlers are found, configured or put on a port.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from sovren_edge.handler.edge import Edge
from sovren_edge.handler.route import Routes


class Handler(BaseModel, ABC):
    """A business service: its fields are its settings in the configuration, `open` is its whole life.

    `migrations` names a package folder of numbered SQL (`my_package.migrations`) if the service has tables; it is read
    without opening the handler. Such a port is ready while the database is, unless `needs_database` is false. `moved`
    names paths that were served here once, with all below them: they answer 404, each with its sentence that says where
    they are now. The class's docstring describes the service in its OpenAPI document. `body_limit` is how many bytes a
    request's body may have. `authenticates` says that callers are known by tokens (`Edge.authenticate`): such a port
    needs keys of tokens, and is refused `auth = "none"`.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    migrations: ClassVar[str | None] = None
    needs_database: ClassVar[bool] = True
    moved: ClassVar[Mapping[str, str]] = {}
    body_limit: ClassVar[int] = 1 << 20
    decompress: ClassVar[bool] = True
    authenticates: ClassVar[bool] = False

    @abstractmethod
    def open(self, edge: Edge) -> AbstractAsyncContextManager[Routes]:
        """Hold what the routes need for as long as they are served; written as an `asynccontextmanager`."""
