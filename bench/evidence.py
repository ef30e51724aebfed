"""Owns the proof that a proxy did its work: the lines of its log, its own counters, the fields that reached the models.

Must not know CPU time or rates.
"""

import http.client
import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

import orjson
from load import CONNECTIONS
from models import COUNT_PORT, SEEN
from processes import BenchError, wait_until
from proxies import PAIR, Proxy

START_S = 20
SETTLE_S = 5
LAST_LINES = 5

_REQUESTS = re.compile(rb"^http_requests_total\{.*\} ([0-9]+)$", re.MULTILINE)
_SERVED = re.compile(rb"requests\s+\d+ \d+ (\d+)")
_CONNECTIONS = re.compile(rb"^edge_connections\{.*\} ([0-9]+)$", re.MULTILINE)


def get(port: int, path: str, *, tls: bool = False) -> tuple[int, bytes]:
    """Ask for a page on a connection of its own; return its status and body, or status 0 when nobody answers."""
    if tls:
        context = ssl.create_default_context(cafile=str(PAIR[0]))
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            "localhost", port, timeout=5, context=context
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def served_by_models() -> int | None:
    """Return how many requests the endpoints have had, probes among them; None where they do not count."""
    status, page = get(COUNT_PORT, "/")
    found = _SERVED.search(page)
    return int(found[1]) if status == http.HTTPStatus.OK and found else None


class RequestLog:
    """Counts the requests in a growing log file."""

    def __init__(self, path: Path, mark: bytes) -> None:
        self._path = path
        self._mark = mark
        self._offset = 0
        self._lines = 0

    def count(self) -> int:
        """Return how many requests were ever logged here."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, end, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(end)
        self._lines += whole.count(self._mark)
        return self._lines

    def drop(self) -> None:
        """Give the disk back what is counted; the writer appends, and nothing is on its way."""
        os.truncate(self._path, 0)
        self._offset = 0


class Counters:
    """Reads the edge's own counters; its pages are not counted among the requests."""

    def __init__(self, port: int, tls_port: int | None) -> None:
        self._ports = {port: False} | ({} if tls_port is None else {tls_port: True})

    def read(self) -> tuple[int, int]:
        """Return the requests that were relayed since the start, and the open connections without these."""
        relayed = connections = 0
        for port, tls in self._ports.items():
            status, page = get(port, "/metrics", tls=tls)
            if status != http.HTTPStatus.OK:
                raise BenchError(f"/metrics on port {port} answered {status}")
            relayed += sum(map(int, _REQUESTS.findall(page)))
            connections += sum(map(int, _CONNECTIONS.findall(page))) - 1
        return relayed, connections


@dataclass(frozen=True, slots=True)
class Known:
    """How many requests a proxy knows of since its start: by its log, and by its counters. None: it keeps none."""

    logged: int | None
    counted: int | None

    def since(self, before: "Known") -> "Known":
        """Return what has come since then."""
        return Known(_minus(self.logged, before.logged), _minus(self.counted, before.counted))

    def faults(self, completed: int) -> list[str]:
        """Return what contradicts that `completed` requests were answered.

        wrk stops in the middle: each connection may have a request open then, known to the proxy and not to wrk.
        """
        told = {"logged": self.logged, "counted in /metrics": self.counted}
        wrong = [
            f"{number} requests {how}, {completed} answered"
            for how, number in told.items()
            if number is not None and not 0 <= number - completed <= CONNECTIONS
        ]
        if self.counted is not None and self.counted != self.logged:
            wrong.append(f"{self.logged} requests logged, {self.counted} counted in /metrics")
        return wrong


def _minus(now: int | None, before: int | None) -> int | None:
    return None if now is None or before is None else now - before


class Witness:
    """What one running proxy knows of its requests."""

    def __init__(self, proxy: Proxy) -> None:
        self._log = RequestLog(proxy.log, proxy.log_mark) if proxy.log is not None else None
        self._counters = Counters(proxy.port, proxy.tls_port) if proxy.metrics else None
        self._known = Known(None, None)

    def wait_logged(self, before: Known, completed: int) -> None:
        """Wait until the answered requests are in the log: writing it is part of a request's work."""
        log = self._log
        if log is not None:
            wait_until(lambda: log.count() - (before.logged or 0) >= completed, SETTLE_S)

    def settle(self) -> Known:
        """Wait until no request is open and all are in the log; return what is known then, agreeing or not."""
        wait_until(self._settled, SETTLE_S)
        if self._log is not None:
            self._log.drop()
        return self._known

    def _settled(self) -> bool:
        """Return whether the counters agree with the log or, where there are none, whether the log has come to rest."""
        before = self._known
        logged = self._log.count() if self._log is not None else None
        if self._counters is None:
            self._known = Known(logged, None)
            return self._known == before
        counted, connections = self._counters.read()
        self._known = Known(logged, counted)
        return connections == 0 and (logged is None or logged == counted)


def fields_seen(proxy: Proxy) -> dict[str, str]:
    """Wait until a proxy relays; return the fields it adds as a model saw them. Raises BenchError without them."""
    pages: list[bytes] = []

    def relays() -> bool:
        status, page = get(proxy.port, SEEN)
        pages.append(page)
        return status == http.HTTPStatus.OK

    if not wait_until(relays, START_S):
        said = proxy.output.with_suffix(".err")
        last = "\n".join(said.read_text(errors="replace").splitlines()[-LAST_LINES:])
        raise BenchError(f"{proxy.name} does not relay on port {proxy.port}. The last it said:\n{last or 'nothing'}")
    seen: dict[str, str] = orjson.loads(pages[-1])
    missing = [name for name in proxy.adds if not seen[name]]
    if missing:
        raise BenchError(f"{proxy.name} did not add {', '.join(missing)}")
    return {name: seen[name] for name in proxy.adds}
