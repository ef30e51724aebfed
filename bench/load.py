"""Owns the load: how wrk is called, and what it says of a run.

Must not know what answers it.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import orjson

CONNECTIONS = 64
OVERTIME_S = 10
KINDS = ("get", "post")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What wrk says of one run: completed requests, and everything that went wrong."""

    requests: int
    duration_us: int
    p99_us: int
    not_2xx: int
    socket_errors: int

    @property
    def rate(self) -> float:
        """Completed requests per second."""
        return self.requests * 1e6 / self.duration_us


def run_load(wrk: str, kind: str, port: int, seconds: int) -> Outcome:
    """Send requests of one kind over every connection, each as soon as the one before it is answered."""
    command = [
        wrk,
        "-t",
        "1",
        "-c",
        str(CONNECTIONS),
        "-d",
        f"{seconds}s",
        "-s",
        str(Path(__file__).with_name("load.lua")),
    ]
    command += [f"http://127.0.0.1:{port}/v1/speech", "--", kind]
    said = subprocess.run(command, capture_output=True, check=True, timeout=seconds + OVERTIME_S).stdout
    return Outcome(**orjson.loads(said.splitlines()[-1]))
