"""Owns which migrations a configuration brings: one history for the gateway, and for each handler that keeps tables.

Must not know what is in them, nor how they are applied.
"""

from sovren_edge.config.model import Config, GatewayListener, HandlerListener
from sovren_edge.gateway.migrations import HISTORY
from sovren_edge.store.history import History


def histories_of(config: Config) -> list[History]:
    """Return the gateway's history, and one for each handler, however many listeners it has, by the handler's name."""
    packages = {
        listener.handler: type(config.handlers[name]).migrations
        for name, listener in config.listeners.items()
        if isinstance(listener, HandlerListener) and name in config.handlers
    }
    handlers = [History(name, package) for name, package in packages.items() if package is not None]
    gateway = any(isinstance(one, GatewayListener) and not one.planned for one in config.listeners.values())
    return [HISTORY, *handlers] if gateway else handlers
