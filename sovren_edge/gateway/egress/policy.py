"""Owns which URLs may be called: from a raw query and a service to a target, or a denial and its reason.

One expression says what a URL may be, and nothing else lets one through; the list of faults only finds the words for
what that expression did not match. URL libraries are not asked: each repairs what it reads in its own way, and then
what was checked is not what is sent. Must not know addresses, DNS, subscribers, limits or how anything is sent.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

LONGEST = 8192

LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# A last label that begins with a digit would be an IPv4 address to some readers: 127.1, 0x7f.1.
HOST = rf"(?![a-z0-9.-]{{254}})(?:{LABEL}\.)*(?=[a-z]){LABEL}"
# Printable ASCII without the space, the number sign and the backslash; a path ends at its first question mark.
IN_QUERY = r"!\"$-\[\]-~"
IN_PATH = r"!\"$->@-\[\]-~"

ENTRY = re.compile(HOST)
# Without the ASCII flag, letters in any case would include the Kelvin sign and the long s.
URL = re.compile(
    rf"(?P<origin>(?i:https)://(?P<host>(?i:{HOST}))(?::443)?)(?P<path>/[{IN_PATH}]*)?(?:\?(?P<query>[{IN_QUERY}]*))?",
    re.ASCII,
)
BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: its `url` as it is sent, its host in lower case, its path without the query."""

    url: str
    host: str
    path: str


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a request goes nowhere: a status, a stable word for machines and a sentence for people."""

    status: int
    reason: str
    detail: str


URL_MISSING = Denial(400, "url_missing", "The query must have the parameter url.")
URL_EMPTY = Denial(400, "url_empty", "The parameter url is empty.")
URL_REPEATED = Denial(400, "url_repeated", "The parameter url may be given once; inside the URL, write & as %26.")
UNKNOWN_PARAMETER = Denial(
    400, "unknown_parameter", "The query may have the parameter url alone; inside the URL, write & as %26."
)
ESCAPE_MALFORMED = Denial(
    400, "escape_malformed", "A percent sign in the query must be followed by two hexadecimal digits; write % as %25."
)
NOT_ASCII = Denial(
    400, "url_not_ascii", "The URL must be ASCII: its host in punycode (xn--), the rest of it percent-encoded."
)
HOST_MALFORMED = Denial(
    400,
    "host_malformed",
    "The host must be labels joined by dots, without one at the end: each of 1 to 63 letters, digits and inner "
    "hyphens, 253 characters in all.",
)

NUMBER_AT_END = r"(?:[a-z0-9-]*\.)*(?:[0-9]+|0x[0-9a-f]*)\.?(?=[:/?]|\Z)"
IP_LITERAL = rf"\[|{NUMBER_AT_END}|[0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*(?=[/?]|\Z)"

# Ordered from the whole to the parts: the first that matches is told. Whatever matches none has a malformed host.
FAULTS = tuple(
    (re.compile(pattern, re.ASCII | re.IGNORECASE | re.DOTALL), denial)
    for pattern, denial in (
        (rf".{{{LONGEST + 1}}}", Denial(400, "url_too_long", f"The URL is longer than {LONGEST} bytes.")),
        (r".*[^\x00-\x7f]", NOT_ASCII),
        (
            r".*[\x00-\x20\\\x7f]",
            Denial(400, "character_not_allowed", "The URL has a space, a backslash or a control character in it."),
        ),
        (".*#", Denial(400, "fragment_not_allowed", "The URL has a fragment; write # as %23 if it belongs to it.")),
        ("(?!https:)[a-z][a-z0-9+.-]*:", Denial(400, "scheme_not_allowed", "The URL must begin with https://.")),
        (
            "(?!https://[^/?])",
            Denial(400, "url_malformed", "The URL must begin with https:// and a host, percent-encoded once."),
        ),
        ("https://[^/?]*@", Denial(400, "userinfo_not_allowed", "The URL may not have a user or password.")),
        (f"https://(?:{IP_LITERAL})", Denial(403, "ip_prohibited", "The URL must name a host, not an address.")),
        (r"https://[^/?:]*:(?!443(?:[/?]|\Z))", Denial(400, "port_not_allowed", "The only port allowed is 443.")),
    )
)


def read_url(raw_query: bytes) -> str | Denial:
    """Return the one parameter `url` of a query as it came, percent-decoded once; a plus stays a plus."""
    if not raw_query:
        return URL_MISSING
    # Every & parts parameters: one that a caller forgot to encode must not silently cut the URL short.
    parameters = [parameter.partition(b"=") for parameter in raw_query.split(b"&")]
    if any(name != b"url" for name, _, _ in parameters):
        return UNKNOWN_PARAMETER
    if len(parameters) > 1:
        return URL_REPEATED
    return _decode(parameters[0][2])


def read_target(url: str) -> Target | Denial:
    """Return where a URL leads: byte for byte, but an empty path is sent as `/` and an empty query not at all."""
    read = URL.fullmatch(url) if len(url) <= LONGEST else None
    if read is None:
        return next((denial for fault, denial in FAULTS if fault.match(url)), HOST_MALFORMED)
    path = read["path"] or "/"
    # HTTP clients drop a question mark with nothing behind it; it is dropped here, so that the URL is what is sent.
    query = f"?{read['query']}" if read["query"] else ""
    return Target(f"{read['origin']}{path}{query}", read["host"].lower(), path)


def judge(target: Target, service: str, hosts: Mapping[str, tuple[str, ...]]) -> Denial | None:
    """Return why a service may not be called there, if so; `hosts` are the entries of each service, in lower case."""
    if service not in hosts:
        return Denial(404, "unknown_service", f"The services of this gateway are: {', '.join(sorted(hosts))}.")
    if _covers(hosts[service], target.host):
        return None
    owner = next((name for name, entries in hosts.items() if _covers(entries, target.host)), None)
    if owner is None:
        return Denial(403, "host_not_allowed", f"{target.host} is not on the list of this gateway.")
    return Denial(403, "service_host_mismatch", f"{target.host} belongs to the service {owner}, not to {service}.")


def is_entry(text: str) -> bool:
    """Say whether a text may stand on the list: the name of a host, in lower case."""
    return ENTRY.fullmatch(text) is not None


def _decode(written: bytes) -> str | Denial:
    if not written:
        return URL_EMPTY
    if BROKEN_ESCAPE.search(written):
        return ESCAPE_MALFORMED
    decoded = unquote_to_bytes(written)
    return decoded.decode("ascii") if decoded.isascii() else NOT_ASCII


def _covers(entries: tuple[str, ...], host: str) -> bool:
    return any(host == entry or host.endswith(f".{entry}") for entry in entries)
