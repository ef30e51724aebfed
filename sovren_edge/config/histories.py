"""Owns which migrations a configuration brings: one history for each handler that keeps tables.

Must not know what is in them, nor how they are applied.
"""

from sovren_edge.config.model import Config, HandlerListener
from sovren_edge.store.history import History


def histories_of(config: Config) -> list[History]:
    """Return one history for each handler, however many listeners it has; its name is the handler's."""
    packages = {
        listener.handler: type(config.handlers[name]).migrations
        for name, listener in config.listeners.items()
        if isinstance(listener, HandlerListener) and name in config.handlers
    }
    return [History(name, package) for name, package in packages.items() if package is not None]
