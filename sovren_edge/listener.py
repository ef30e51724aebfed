"""Owns what every port answers itself: /health, /ready, /metrics and, on status ports, /status.

Must not know how requests arrive: the relay and aiohttp applications ask it the same question.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import orjson

from sovren_edge.auth.networks import Networks
from sovren_edge.errors import Problem, Side
from sovren_edge.http.answer import Answer, json_answer, problem_answer
from sovren_edge.observe.registry import CONTENT_TYPE, Source, render

Check = Callable[[], bool]
"""Tells whether one dependency is ready now."""

READABLE = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class OwnPages:
    """One listener's own pages; a page is never forwarded, whatever the method."""

    health: bytes
    checks: Mapping[str, Check]
    sources: Callable[[], Iterable[Source]]
    trusted: Networks
    status: Callable[[], object] | None = None
    # Which checks make the port ready: all of its dependencies, or any of its tiers.
    quorum: Callable[[Iterable[bool]], bool] = all
    # A port that forwards nothing has no other paths.
    alone: bool = False
    draining: Callable[[], bool] = field(default=lambda: False)

    def answer(self, method: str, path: str, peer: str) -> Answer | None:
        """Return the page at this path, None where there is none; `peer` is the caller's address."""
        page = self._page(path)
        if page is None:
            return self._missing(path) if self.alone else None
        if method in READABLE:
            return page(self.trusted.contains(peer))
        refusal = problem_answer(Problem(405, "method_not_allowed", f"{path} answers to GET and HEAD.", Side.CALLER))
        return Answer(refusal.status, (*refusal.headers, ("Allow", "GET, HEAD")), refusal.body)

    @property
    def ready(self) -> bool:
        """Whether the port can do its work."""
        return not self.draining() and self.quorum(check() for check in self.checks.values())

    def _page(self, path: str) -> Callable[[bool], Answer] | None:
        match path:
            case "/health":
                return self._health
            case "/ready":
                return self._ready
            case "/metrics":
                return self._metrics
            case "/status" if self.status is not None:
                return self._status
        return None

    def _health(self, _trusted: bool) -> Answer:  # noqa: FBT001 - one form for all pages
        return json_answer(self.health)

    def _ready(self, trusted: bool) -> Answer:  # noqa: FBT001 - one form for all pages
        body: dict[str, object] = {"state": "ready" if self.ready else "not ready"}
        if trusted:
            body["checks"] = {name: "ready" if check() else "not ready" for name, check in self.checks.items()}
            body["draining"] = self.draining()
        if self.ready:
            return json_answer(orjson.dumps(body))
        problem = Problem(503, "not_ready", "This port cannot do its work now.", retry_after_s=1)
        return Answer(503, problem.headers, orjson.dumps({**orjson.loads(problem.body()), **body}))

    def _metrics(self, trusted: bool) -> Answer:  # noqa: FBT001 - one form for all pages
        if not trusted:
            return self._forbidden()
        headers = (("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-store"))
        return Answer(200, headers, render(self.sources()))

    def _status(self, trusted: bool) -> Answer:  # noqa: FBT001 - one form for all pages
        if not trusted or self.status is None:
            return self._forbidden()
        return json_answer(orjson.dumps(self.status()))

    def _missing(self, path: str) -> Answer:
        pages = "/health, /ready, /metrics" + (" and /status" if self.status else "")
        return problem_answer(Problem(404, "not_found", f"{path} is not here; this port has {pages}.", Side.CALLER))

    def _forbidden(self) -> Answer:
        return problem_answer(Problem(403, "address_not_trusted", "Your address may not see this page.", Side.CALLER))
