"""Ports for what tests start: tests that run side by side, each worker in a process of its own, have their own."""

import itertools
import os
import random
import socket


def own_part(ports: range) -> range:
    """Return the part of a range that no other worker of this run takes from."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    size = len(ports) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return ports[worker * size : (worker + 1) * size]


# Below the ports that the system gives to whoever asks for any, and those that programs with an offset have.
_PART = own_part(range(10_000, 18_000))
_NEXT = itertools.cycle(random.sample(_PART, len(_PART)))


def free_port() -> int:
    """Return a port that is free for TCP and UDP, and that is not given again soon."""
    return next(port for port in _NEXT if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tcp.bind(("127.0.0.1", port))
            udp.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
