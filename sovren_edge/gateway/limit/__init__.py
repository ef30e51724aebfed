"""The hourly limit: who may send now, in this process or in Redis."""
