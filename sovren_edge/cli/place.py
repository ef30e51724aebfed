"""Owns which place a command means, and how its database is found: by a configuration, or in a program on a laptop.

Must not know what is kept there.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from sovren_edge.cli.options import config_option, find_state_dir, load_whole, local_option, state_option
from sovren_edge.config.model import Config
from sovren_edge.errors import StartupError
from sovren_edge.gateway.migrations import HISTORY
from sovren_edge.local.postgres import find_postgres
from sovren_edge.store.database import Database, open_database
from sovren_edge.store.migrations import check


@dataclass(frozen=True, slots=True)
class Place:
    """One configuration, and with --local the program that runs over a directory."""

    config: Config
    local_state_dir: Path | None

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """Open the database, if it has the gateway's tables."""
        settings = self.config.database
        if self.local_state_dir is not None:
            url = find_postgres(self.local_state_dir)
        elif settings.url is not None:
            url = settings.url.get_secret_value()
        else:
            raise StartupError("database.url names no database")
        if faults := await check(url, settings.schema_name, [HISTORY]):
            raise StartupError("; ".join(faults))
        async with open_database(url, settings) as database:
            yield database


def in_place(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command be told which place is meant."""

    @wraps(command)
    def placed(path: Path | None, state_dir: Path | None, *, local: bool, **told: Any) -> None:  # noqa: ANN401 - click's
        state_dir = find_state_dir(state_dir, local=local)
        command(Place(load_whole(path, state_dir, local=local), state_dir if local else None), **told)

    return config_option(local_option(state_option(placed)))
