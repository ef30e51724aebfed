"""Which URLs may be called, and why the others may not."""

from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from sovren_edge.gateway.egress.policy import Denial, Target, is_entry, judge, read_target, read_url
from tests.gateway.hostile_urls import HOSTILE
from tests.gateway.urls import GOOD, GOOD_QUERIES, HOSTILE_QUERIES, HOSTS

PRINTABLE = "".join(map(chr, range(0x21, 0x7F))).replace("\\", "").replace("#", "")
FORBIDDEN = {"ip_prohibited", "host_not_allowed", "service_host_mismatch"}
# What URLs are made of, and what takes them apart.
PIECES = (
    "https://", "HTTPS:", "http://", "//", "/", "\\", "@", ":", ":443", ":80", "?", "#", "%", "%2e", "%2f", "%40",
    "%00", "[", "]", "[::1]", "127.0.0.1", "0x7f", ".", "..", "-", ";", "&", "=", "+", "*", "_", " ", "\t", "\n",
    "\x00", "\u3002", "\uff0f", "\u212a", "a", "x", "salesforce.com", "SALESFORCE.COM", "slack.com", "slac",
    "evil.com", "com", "url=",
)  # fmt: skip
NO_ENTRIES = (
    "", ".", "Slack.com", ".slack.com", "slack.com.", "*.slack.com", "https://slack.com", "slack.com:443",
    "slack.com/", "slack com", "slack.com\n", "sla_ck.com", "-slack.com", "slack-.com", "127.0.0.1", "::1",
    "slac\u212a.com", "a" * 64, "a." * 126 + "aa",
)  # fmt: skip


def name(value: object) -> str:
    """Return a short name for a case."""
    return ascii(value)[:60]


def verdict(url: str, service: str = "salesforce") -> Target | Denial:
    """Return what becomes of a URL that a careful caller puts into a query."""
    read = read_url(b"url=" + quote(url, safe="").encode())
    target = read if isinstance(read, Denial) else read_target(read)
    if isinstance(target, Denial):
        return target
    return judge(target, service, HOSTS) or target


def as_sent(url: str) -> str:
    """Return what is to be sent for an allowed URL: with a path, and without an empty query."""
    before, mark, query = url.partition("?")
    return before + "/" * (before.count("/") == len("//")) + (mark + query if query else "")


def beyond_origin(url: str) -> str:
    """Return a URL's path and query without reading it as one."""
    return "/" + url.split("/", 3)[3]


def agrees(target: Target) -> bool:
    """Say whether two libraries would call the same host on the same port, and ask it for the same."""
    split, sent = urlsplit(target.url), URL(target.url, encoded=True)
    return (
        split.scheme == sent.scheme == "https"
        and split.hostname == (sent.raw_host or "").lower() == target.host
        and (split.port or 443) == sent.port == 443
        and split.username is split.password is sent.raw_user is sent.raw_password is None
        and split.path == sent.raw_path == target.path
        and sent.raw_path_qs == beyond_origin(target.url)
        and not split.fragment + sent.raw_fragment
    )


@pytest.mark.parametrize(
    ("url", "reason"), [(url, reason) for reason, urls in HOSTILE.items() for url in urls], ids=name
)
def test_hostile_urls_are_refused(url: str, reason: str) -> None:
    """Each for its reason."""
    denied = verdict(url)
    assert isinstance(denied, Denial)
    assert (denied.status, denied.reason) == (403 if reason in FORBIDDEN else 400, reason)
    assert denied.detail.endswith(".")


@pytest.mark.parametrize("url", [url for urls in HOSTILE.values() for url in urls], ids=name)
def test_hostile_urls_are_refused_as_they_are_too(url: str) -> None:
    """Also if they reach the grammar without a query around them, which keeps out what is not ASCII."""
    target = read_target(url)
    denied = judge(target, "salesforce", HOSTS) if isinstance(target, Target) else target
    assert denied is not None
    assert denied.reason in HOSTILE
    assert url in HOSTILE[denied.reason]


@pytest.mark.parametrize(("service", "url", "sent"), GOOD, ids=name)
def test_good_urls_are_sent_as_they_are(service: str, url: str, sent: str | None) -> None:
    """Byte for byte, and libraries read the same in them."""
    target = verdict(url, service)
    assert isinstance(target, Target)
    assert target.url == (sent or url)
    assert agrees(target)


def test_there_are_enough_of_both() -> None:
    """The tables do not shrink unseen, and no URL stands in them twice."""
    hostile = [url for urls in HOSTILE.values() for url in urls]
    assert len(hostile) == len(set(hostile)) >= 440
    assert len(GOOD) == len(set(GOOD)) >= 60


def test_a_target_has_its_parts() -> None:
    """The host in lower case, the path without the query's values."""
    url = "hTTps://Acme.Salesforce.COM:443/Data/v1?token=1"
    assert read_target(url) == Target(url, "acme.salesforce.com", "/Data/v1")
    assert read_target("https://a?b") == Target("https://a/?b", "a", "/")


@pytest.mark.parametrize(("query", "reason"), HOSTILE_QUERIES, ids=name)
def test_a_query_has_one_url_and_nothing_else(query: bytes, reason: str) -> None:
    """Or nothing is read of it."""
    denied = read_url(query)
    assert isinstance(denied, Denial)
    assert (denied.status, denied.reason) == (400, reason)


@pytest.mark.parametrize(("query", "url"), GOOD_QUERIES, ids=name)
def test_a_url_is_decoded_once(query: bytes, url: str) -> None:
    """And a plus stays a plus."""
    assert read_url(query) == url


def test_an_empty_url_is_no_target() -> None:
    """Should it ever get so far."""
    denied = read_target("")
    assert isinstance(denied, Denial)
    assert denied.reason == "url_malformed"


def test_a_service_has_its_own_hosts() -> None:
    """Whoever mixes them up is told whose they are; other hosts are nobody's."""
    target = Target("https://files.slack.com/", "files.slack.com", "/")
    assert judge(target, "slack", HOSTS) is None
    assert judge(target, "zoom", HOSTS) == Denial(
        403, "service_host_mismatch", "files.slack.com belongs to the service slack, not to zoom."
    )
    alone = {"zoom": HOSTS["zoom"]}
    assert judge(target, "zoom", alone) == Denial(
        403, "host_not_allowed", "files.slack.com is not on the list of this gateway."
    )
    assert judge(target, "zoom", {"zoom": ("api.zoom.us", "slack.com"), "slack": ("slack.com",)}) is None
    assert judge(target, "zoom", {"zoom": ()}) is not None


@pytest.mark.parametrize("service", ["", "Slack", "slack ", "slack.com", "*", "unheard-of"])
def test_a_service_must_be_known(service: str) -> None:
    """By exactly its name, wherever the URL leads."""
    denied = verdict("https://slack.com/", service)
    assert isinstance(denied, Denial)
    assert (denied.status, denied.reason) == (404, "unknown_service")
    assert "gmail, hubspot" in denied.detail


@pytest.mark.parametrize("entry", [entry for entries in HOSTS.values() for entry in entries] + ["a", "x1--2.y-3.c0"])
def test_entries_are_names_of_hosts(entry: str) -> None:
    """As they stand in the shipped configuration, and others."""
    assert is_entry(entry)


@pytest.mark.parametrize("text", NO_ENTRIES, ids=name)
def test_other_texts_are_no_entries(text: str) -> None:
    """Such as URLs, patterns and addresses."""
    assert not is_entry(text)


labels = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,10}[A-Za-z0-9])?", fullmatch=True)
tails = st.text(PRINTABLE, max_size=60)


@settings(max_examples=300)
@given(
    service=st.sampled_from(sorted(HOSTS)),
    scheme=st.sampled_from(["https", "HTTPS", "hTtpS"]),
    prefix=st.lists(labels, max_size=4),
    upper=st.booleans(),
    port=st.sampled_from(["", ":443"]),
    path=tails.map(lambda tail: "/" + tail.replace("?", "")),
    query=tails.map(lambda tail: tail and "?" + tail),
)
def test_what_is_allowed_is_sent_byte_for_byte(  # noqa: PLR0917 - drawn
    service: str,
    scheme: str,
    prefix: list[str],
    upper: bool,  # noqa: FBT001 - drawn
    port: str,
    path: str,
    query: str,
) -> None:
    """Whatever its path and query are made of, and libraries read the same in it."""
    entry = HOSTS[service][0]
    host = ".".join([*prefix, entry.upper() if upper else entry])
    url = f"{scheme}://{host}{port}{path}{query}"
    target = verdict(url, service)
    assert target == Target(url, host.lower(), path)
    assert isinstance(target, Target)
    assert agrees(target)


@settings(max_examples=1000)
@given(url=st.lists(st.sampled_from(PIECES), max_size=8).map(lambda pieces: "https://" + "".join(pieces)))
def test_no_puzzle_gets_past(url: str) -> None:
    """What is put together from the tools of the trade is refused, or harmless in the eyes of all."""
    target = verdict(url)
    if isinstance(target, Target):
        assert target.host == "salesforce.com" or target.host.endswith(".salesforce.com")
        assert agrees(target)
        assert target.url == as_sent(url)


@settings(max_examples=500)
@given(
    url=st.sampled_from(
        ["https://acme.salesforce.com:443/a/b?c=d", "https://salesforce.com?x", "https://salesforce.com"]
    ),
    cuts=st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 3), st.sampled_from(["", *PIECES])), min_size=1, max_size=3
    ),
)
def test_no_good_url_turns_bad_unseen(url: str, cuts: list[tuple[int, int, str]]) -> None:
    """Whatever is cut out of it or put into it."""
    for at, length, piece in cuts:
        url = url[:at] + piece + url[at + length :]
    target = verdict(url)
    if isinstance(target, Target):
        assert target.host == "salesforce.com" or target.host.endswith(".salesforce.com")
        assert agrees(target)
        assert target.url == as_sent(url)


@settings(max_examples=300)
@given(url=st.text(st.characters(max_codepoint=127), min_size=1))
def test_every_encoded_url_is_read_back(url: str) -> None:
    """As it was before it was encoded."""
    assert read_url(b"url=" + quote(url, safe="").encode()) == url


@settings(max_examples=300)
@given(query=st.binary(max_size=100), prefix=st.sampled_from([b"", b"url=", b"url=https://"]))
def test_any_query_is_read(query: bytes, prefix: bytes) -> None:
    """Without a fault, and what is read of it is ASCII."""
    read = read_url(prefix + query)
    assert isinstance(read, Denial) or read.isascii()


@settings(max_examples=300)
@given(text=st.text(max_size=100), prefix=st.sampled_from(["", "https://", "https://salesforce.com"]))
def test_any_text_is_judged(text: str, prefix: str) -> None:
    """Without a fault, and what passes is printable ASCII."""
    target = read_target(prefix + text)
    assert isinstance(target, Denial) or (target.url.isascii() and target.url.isprintable() and " " not in target.url)
