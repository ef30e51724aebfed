"""How tests open the gateway's database."""

from sovren_edge.store.settings import DatabaseSettings

SETTINGS = DatabaseSettings(timeout_s=5.0)
