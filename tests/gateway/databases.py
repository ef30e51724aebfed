"""How tests open the gateway's databases: both may answer as late as a busy machine lets them."""

from sovren_edge.store.settings import DatabaseSettings

SETTINGS = DatabaseSettings(timeout_s=5.0)
# Of a call to Redis.
CALL_S = 20.0
