"""The composition root: sockets, the worker, signals."""
