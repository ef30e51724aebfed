"""Owns the load: how wrk is called, and what it says of a run.

Must not know what answers it.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import orjson
from processes import BenchError

CONNECTIONS = 64
OVERTIME_S = 10
KINDS = ("get", "post", "varied", "tls", "handshake")
TLS_KINDS = frozenset({"tls", "handshake"})


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
    """Send requests of one kind over every connection, each as soon as the one before is answered.

    Raises BenchError when nobody listens.
    """
    script = str(Path(__file__).with_name("load.lua"))
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", script]
    scheme = "https" if kind in TLS_KINDS else "http"
    command += [f"{scheme}://127.0.0.1:{port}/v1/speech", "--", kind]
    ended = subprocess.run(command, capture_output=True, check=False, timeout=seconds + OVERTIME_S)
    if ended.returncode:
        raise BenchError(f"wrk failed on port {port}: {ended.stderr.decode(errors='replace').strip()}")
    return Outcome(**orjson.loads(ended.stdout.splitlines()[-1]))
