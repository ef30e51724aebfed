"""Owns reading what a caller asks for, as far as it can be judged without asking anybody.

Must not know subscribers, limits, or how anything is sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sovren_edge.gateway.egress.fields import OWS, Field, read_authorization, read_method, to_upstream
from sovren_edge.gateway.egress.policy import Denial, Target, judge, read_target, read_url
from sovren_edge.gateway.ledger.replays import read_key
from sovren_edge.gateway.settings import GatewaySettings

MOST_RETRIES = 2
SAFE_METHODS = frozenset({"GET", "HEAD"})

RETRY_MALFORMED = Denial(400, "retry_malformed", "X-Gateway-Retry may be given once: 0, 1 or 2.")
NOT_REPEATABLE = Denial(
    400, "retry_not_allowed", "X-Gateway-Retry is for GET and HEAD, or goes with an Idempotency-Key."
)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be sent: `fields` without a credential, `authorization` the caller's own, if it brought one.

    `retries` is how often it may be sent again; `would_deny` why it would be refused if its service were not on trial;
    `key` the caller's idempotency key, if it gave one.
    """

    service: str
    target: Target
    method: str
    fields: list[Field]
    authorization: str | None
    retries: int
    would_deny: str = ""
    key: str | None = None

    @property
    def safe(self) -> bool:
        """Whether sending it twice is no more than sending it once."""
        return self.method in SAFE_METHODS


def read_aim(raw_query: bytes) -> Target | Denial:
    """Return where a caller's query leads, whether or not that is allowed."""
    url = read_url(raw_query)
    return url if isinstance(url, Denial) else read_target(url)


def trial(target: Target, service: str, settings: GatewaySettings) -> str | Denial:
    """Return why a service may not be called there; of a service on trial, the reason alone; nothing if it may."""
    denial = judge(target, service, settings.hosts)
    if denial is None:
        return ""
    found = settings.services.get(service)
    return denial.reason if found is not None and found.mode == "report" else denial


def read_order(target: Target, service: str, given: Sequence[Field], *, would_deny: str = "") -> Order | Denial:
    """Return what is to be sent, of all fields that a caller gave."""
    method = read_method(_values(given, "x-upstream-method"))
    fields = to_upstream(given)
    authorization = read_authorization(given)
    retries = _read_retries(_values(given, "x-gateway-retry"))
    key = read_key(_values(given, "idempotency-key"))
    if isinstance(method, Denial):
        return method
    if isinstance(fields, Denial):
        return fields
    if isinstance(authorization, Denial):
        return authorization
    if isinstance(retries, Denial):
        return retries
    if isinstance(key, Denial):
        return key
    order = Order(service, target, method, fields, authorization, retries, would_deny, key)
    return NOT_REPEATABLE if order.retries and not (order.safe or key) else order


def _values(given: Sequence[Field], name: str) -> list[str]:
    return [value for field, value in given if field.lower() == name]


def _read_retries(values: Sequence[str]) -> int | Denial:
    if not values:
        return 0
    text = values[0].strip(OWS)
    allowed = [str(number) for number in range(MOST_RETRIES + 1)]
    return int(text) if len(values) == 1 and text in allowed else RETRY_MALFORMED
