"""The gateway's tables, in numbered SQL."""

from sovren_edge.store.history import History

HISTORY = History("gateway", __name__)
