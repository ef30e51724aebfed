"""Owns which migrations a configuration brings: one history for the gateway, and for each package of handlers' tables.

It is known by its package, whatever names its handler has: two that share their code share their tables.

Must not know what is in them, nor how they are applied.
"""

from sovren_edge.config.model import Config, GatewayListener
from sovren_edge.gateway.migrations import HISTORY
from sovren_edge.store.history import History


def histories_of(config: Config) -> list[History]:
    """Return the gateway's history, and one for each package, however many listeners have its tables."""
    packages = {type(handler).migrations: None for handler in config.handlers.values()}
    handlers = [History(package.removesuffix(".migrations"), package) for package in packages if package is not None]
    gateway = any(isinstance(one, GatewayListener) and not one.planned for one in config.listeners.values())
    return [HISTORY, *handlers] if gateway else handlers
