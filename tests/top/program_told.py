"""What a running program tells of itself, as GET /top does."""

from typing import Any

Told = dict[str, Any]


def times(count: int = 0, sum_s: float = 0.0) -> Told:
    """Return durations."""
    return {"count": count, "sum_s": sum_s, "p50": 0.1, "p95": 0.25}


def endpoint(name: str = "tts-01", *, sent: int = 0, failed: int = 0, ttfa: Told | None = None, **others: Any) -> Told:  # noqa: ANN401
    """Return an endpoint that is ready."""
    told = {
        "name": name, "address": "127.0.0.1:8100", "slots": 2, "limit": 2, "weight": 1.0, "inflight": 0,
        "absent": False, "enabled": True, "leaving": False, "healthy": True, "ready": True, "ejected": False,
        "ejections": 0, "attempts": {"succeeded": sent - failed, "failed": failed}, "ttfa_s": ttfa or times(),
    }  # fmt: skip
    return told | others


def pool(*endpoints: Told, name: str = "tts", ttfa: Told | None = None, **others: Any) -> Told:  # noqa: ANN401
    """Return a pool of speech."""
    told = {
        "name": name, "kind": "speech", "ready": True, "inflight": sum(one["inflight"] for one in endpoints),
        "queue": {"length": 0, "limit": 256, "wait_p95_s": None}, "refusals": {}, "retries": 0, "hedges": 0,
        "endpoints": list(endpoints), "speech": {"ttfa_s": ttfa or times()},
    }  # fmt: skip
    return told | others


def worker(name: str = "balance", **others: Any) -> Told:  # noqa: ANN401
    """Return a worker that serves."""
    told = {
        "name": name, "pid": 4711, "state": "serving", "since": 1_795_852_740.0, "restarts": 0,
        "loop_lag_p99_s": 0.0004, "loop_lag_max_s": 0.0021, "rss_bytes": 88_080_384, "descriptors": 45, "cpu_s": 1.5,
    }  # fmt: skip
    return told | others


def port(number: int = 8200, name: str = "tts-master", **others: Any) -> Told:  # noqa: ANN401
    """Return a port that is ready."""
    told = {
        "name": name, "port": number, "kind": "balance", "worker": "balance", "ready": True, "connections": 3,
        "requests": 1204, "errors": 2,
    }  # fmt: skip
    return told | others


def gateway(**others: Any) -> Told:  # noqa: ANN401
    """Return a gateway whose limiter makes grants."""
    told: Told = {
        "limiter": {"seeded": True, "subscribers": 12, "entries": 340, "inflight": 3, "refused": 17},
        "ledger": {"journaling": False, "journal_bytes": 0},
        "requests": {"allowed": 100, "refused": 17},
    }
    return told | others


def program(**others: Any) -> Told:  # noqa: ANN401
    """Return the whole."""
    told: Told = {
        "version": "0.1.0", "node": "g367", "at": 1_795_852_800.5, "generation": 1, "retiring": 0,
        "workers": [worker()], "ports": [port()], "pools": [pool(endpoint("tts-01"), endpoint("tts-02"))],
        "gateway": None,
    }  # fmt: skip
    return told | others
