"""Owns how often parts of one text are spoken again, and by whom: what it has seen of a pool's failures.

Nothing is lost of what is being heard, as far as anybody can speak it. Before that, the fault of single endpoints is
made good by others; where all have failed lately, asking again makes it worse, and the pool's budget counts. Must not
know what has failed, nor how parts are asked for.
"""

from pools.endpoint import Endpoint
from pools.pool import NOBODY, Pool

# How often a part is sent to endpoints that have failed its text before.
AGAIN = 2
# Where all have failed lately and so much of the budget is used, texts are spoken as a whole: of those in parts, what
# is heard already is repeated without asking.
WHOLE_FROM = 0.5


def may_scatter(pool: Pool, now: float) -> bool:
    """Whether a text may be spoken in parts: not where each would likely fail, and few more can be repeated."""
    return pool.has_blameless(now) or pool.budget.used(now) < WHOLE_FROM


class Repeats:
    """The repeats of one text's parts; `heard` once its listener has heard something."""

    heard = False

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._failed = NOBODY

    def failed(self, endpoints: frozenset[Endpoint]) -> None:
        """Take note of who did not bring a part to its end."""
        self._failed |= endpoints

    def spoke(self, endpoint: Endpoint) -> None:
        """Take note of who has spoken a part."""
        if self._failed:
            self._failed -= {endpoint}

    def allow(self, again: int, now: float) -> frozenset[Endpoint] | None:
        """Return whom a part is not to be sent to when it is spoken again; None if it must not be.

        Nobody is left out, if all have failed already; `again` is how often that was so for this part.
        """
        pool, failed = self._pool, self._failed
        others = pool.can_serve(failed)
        if not others and again == AGAIN:
            return None
        if self.heard or (others and pool.has_blameless(now)):
            pool.budget.spend(now)
        elif not pool.budget.take(now):
            return None
        return failed if others else NOBODY
