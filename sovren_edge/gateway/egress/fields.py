"""Owns which header fields travel: from a caller to the service that it calls, and from that service's answer back.

What leaves is chosen: a few fields that mean the same to everybody, and those that the caller sends as X-Upstream-.
What comes back is everything but what belongs to one connection (RFC 9110, section 7.6.1), what would make a browser
keep something about our origin, and what could be taken for a word of ours. Names are compared without case and with
hyphens for underscores, because many servers read them so.

Text is what UTF-8 decodes to, with surrogates for other bytes, as aiohttp reads and writes it. Must not know
subscribers, where credentials are stored, or how anything is sent.
"""

import re
from collections.abc import Iterable, Sequence

from sovren_edge.gateway.egress.policy import Denial
from sovren_edge.http.request import VIA

Field = tuple[str, str]

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
PREFIX, METHOD, AUTHORIZATION = "x-upstream-", "method", "authorization"
OWS = " \t"

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Control characters but the tab, and bytes that were no UTF-8: those could not be written as they came.
UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")

# Accept-Encoding is not among them: nothing is decompressed here, so only who asks for it in so many words gets it.
CARRIED = frozenset(
    {"accept", "accept-language", "content-type", "content-encoding", "range", "prefer", "idempotency-key"}
)
CARRIED_BEGINNING = "if-"
# Said twice, these have no meaning, and servers disagree about which one counts.
SINGLE = ("content-type", "idempotency-key", "if-modified-since", "if-range", "if-unmodified-since", "range")

OF_CONNECTION = frozenset(
    {"connection", "http2-settings", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
OURS_BEGINNING = ("x-gateway-", "x-sovren-")

# Framing and addressing are ours, cookies are nobody's, and who called us is nobody's business.
NEVER_SENT = OF_CONNECTION | {"content-length", "cookie", "cookie2", "expect", "forwarded", "host", "via", "x-real-ip"}
NEVER_SENT_BEGINNING = ("proxy-", "x-forwarded-", PREFIX, *OURS_BEGINNING)

# Browsers would apply the last five to the gateway's origin instead of the upstream's.
NEVER_BACK = OF_CONNECTION | {
    "idempotency-replayed",
    "x-request-id",
    "alt-svc",
    "clear-site-data",
    "nel",
    "report-to",
    "strict-transport-security",
}
# An upstream's Proxy-Status goes too, although RFC 9209 would have it kept: one malformed member would void ours as
# well, and callers learn from this field alone whether an answer is ours. So all that it says is said by us.
NEVER_BACK_BEGINNING = ("access-control-", "proxy-", "set-cookie", *OURS_BEGINNING)

METHOD_NOT_ALLOWED = Denial(
    400,
    "upstream_method_not_allowed",
    f"X-Upstream-Method may be given once, in capitals: {', '.join(METHODS)}; without it, POST is sent.",
)
NAME_MALFORMED = Denial(
    400, "field_malformed", "What follows X-Upstream- must be the name of a field: ASCII, no separators, not empty."
)


def read_method(values: Sequence[str]) -> str | Denial:
    """Return the method to send, of all values that X-Upstream-Method has."""
    if not values:
        return "POST"
    method = values[0].strip(OWS)
    return method if len(values) == 1 and method in METHODS else METHOD_NOT_ALLOWED


def to_upstream(fields: Iterable[Field]) -> list[Field] | Denial:
    """Return the caller's fields that are sent on, never with a credential; or why the request is refused.

    An X-Upstream- field replaces the plain one of the same name.
    """
    plain, asked = _parted(fields)
    replaced = {_folded(name) for name, _ in asked}
    sent = [field for field in plain if _folded(field[0]) not in replaced]
    sent += [field for field in asked if _folded(field[0]) not in {METHOD, AUTHORIZATION}]
    faults = (_fault(name, value) for name, value in sent)
    return next((fault for fault in faults if fault), None) or _repeated(sent) or sent


def read_authorization(fields: Iterable[Field]) -> str | Denial | None:
    """Return the caller's own credential, of X-Upstream-Authorization; it is for where none is stored, and only there.

    It has a function of its own so that no other path can let it stand beside a stored one, or in its place.
    """
    given = [field for field in _parted(fields)[1] if _folded(field[0]) == AUTHORIZATION]
    if not given:
        return None
    return _repeated(given, (AUTHORIZATION,)) or _fault(*given[0]) or given[0][1]


def may_be_sent(name: str) -> bool:
    """Whether somebody but the gateway may set the field of this name."""
    folded = _folded(name)
    return (
        TOKEN.fullmatch(name) is not None and folded not in NEVER_SENT and not folded.startswith(NEVER_SENT_BEGINNING)
    )


def with_credential(sent: Iterable[Field], name: str, value: str) -> list[Field]:
    """Return fields with a credential, which replaces whatever has its name."""
    return [*(field for field in sent if _folded(field[0]) != _folded(name)), (name, value)]


def from_upstream(fields: Iterable[Field]) -> list[Field]:
    """Return an answer's fields that go back to the caller, and Via with the gateway added."""
    given = [(name, value) for name, value in fields if TOKEN.fullmatch(name)]
    withheld = {_folded(name) for name in _nominated(given)} - {"content-length"}
    # Two lengths of one body are how answers are smuggled: RFC 9112, section 6.3.
    if any(_folded(name) == "transfer-encoding" for name, _ in given):
        withheld.add("content-length")
    back = [(name, _cleaned(value)) for name, value in given if _goes_back(_folded(name), withheld)]
    return [*back, ("Via", VIA.decode())]


def _parted(fields: Iterable[Field]) -> tuple[list[Field], list[Field]]:
    """Return the plain fields that are carried, and those behind the prefix, without it."""
    given = list(fields)
    nominated = _nominated(given)
    kept = [(name, value.strip(OWS)) for name, value in given if name.lower() not in nominated]
    plain = [(name, value) for name, value in kept if _is_carried(name.lower())]
    return plain, [(name[len(PREFIX) :], value) for name, value in kept if name.lower().startswith(PREFIX)]


def _is_carried(name: str) -> bool:
    return name in CARRIED or name.startswith(CARRIED_BEGINNING)


def _nominated(fields: Iterable[Field]) -> set[str]:
    """Return the names that Connection says are for one connection alone, in lower case."""
    values = [value for name, value in fields if name.lower() == "connection"]
    return {option.strip(OWS).lower() for value in values for option in value.split(",")}


def _fault(name: str, value: str) -> Denial | None:
    """Return why a field cannot be sent, if so."""
    if TOKEN.fullmatch(name) is None:
        return NAME_MALFORMED
    if not may_be_sent(name):
        # Dropped without a word, it would be missed only at the other end.
        return Denial(400, "field_not_allowed", f"X-Upstream-{name} is not allowed: {name} is not a caller's to set.")
    if UNSENDABLE.search(value):
        return Denial(400, "field_malformed", f"The value of {name} has a control character in it, or is not UTF-8.")
    return None


def _repeated(fields: Iterable[Field], single: Sequence[str] = SINGLE) -> Denial | None:
    names = [_folded(name) for name, _ in fields]
    repeated = next((name for name in single if names.count(name) > 1), None)
    return Denial(400, "field_repeated", f"The field {repeated} may be given once.") if repeated else None


def _goes_back(name: str, withheld: set[str]) -> bool:
    return name not in NEVER_BACK and name not in withheld and not name.startswith(NEVER_BACK_BEGINNING)


def _cleaned(value: str) -> str:
    # A space for each is what RFC 9110, section 5.5, offers to those who pass a value on.
    return UNSENDABLE.sub(" ", value).strip(OWS)


def _folded(name: str) -> str:
    return name.lower().replace("_", "-")
