"""Which header fields leave, which come back, and that no spelling gets another one past."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovren_edge.gateway.egress.fields import (
    from_upstream,
    read_authorization,
    read_method,
    to_upstream,
    with_credential,
)
from sovren_edge.gateway.egress.policy import Denial

Fields = list[tuple[str, str]]

VIA = ("Via", "1.1 sovren-edge")
# Written down again, so that a name that is lost from the module is missed here.
NEVER_SENT = (
    "Host", "Content-Length", "Cookie", "Cookie2", "Connection", "Keep-Alive", "Proxy-Authorization",
    "Proxy-Connection", "Proxy-Anything", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "HTTP2-Settings", "Expect",
    "Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Anything", "X-Real-IP", "X-Sovren-Pool",
    "X-Gateway-Retry", "X-Upstream-Host", "X-Upstream-",
)  # fmt: skip
NEVER_BACK = (
    "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Proxy-Status", "TE", "Trailer",
    "Transfer-Encoding", "Upgrade", "HTTP2-Settings", "Set-Cookie", "Set-Cookie2", "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials", "Alt-Svc", "Strict-Transport-Security", "Clear-Site-Data", "NEL", "Report-To",
    "X-Gateway-RateLimit-Remaining", "X-Gateway-Anything", "X-Sovren-Anything", "X-Request-Id", "Idempotency-Replayed",
)  # fmt: skip
CARRIED = (
    ("Accept", "application/json, */*;q=0.1"),
    ("accept-language", "de"),
    ("Content-Type", "application/json; charset=utf-8"),
    ("Content-Encoding", "gzip"),
    ("If-Match", '"a"'),
    ("IF-NONE-MATCH", "*"),
    ("If-Modified-Since", "Tue, 15 Nov 1994 12:45:26 GMT"),
    ("Range", "bytes=0-9"),
    ("Prefer", "respond-async"),
    ("Idempotency-Key", "0199-a"),
)
NOT_CARRIED = (
    ("Host", "gateway.example"),
    ("Authorization", "Bearer of-the-gateway"),
    ("Cookie", "a=b"),
    ("Accept-Encoding", "gzip"),
    ("User-Agent", "curl"),
    ("Content-Length", "3"),
    ("Transfer-Encoding", "chunked"),
    ("Connection", "keep-alive"),
    ("Expect", "100-continue"),
    ("X-Forwarded-For", "10.0.0.1"),
    ("Forwarded", "for=10.0.0.1"),
    ("Via", "1.1 edge"),
    ("X-Request-Id", "abc"),
    ("X-Sovren-Pool", "a"),
    ("X-Gateway-Retry", "2"),
    ("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("X-Api-Key", "k"),
    ("X_Upstream_Foo", "no prefix of ours"),
    ("XX-Upstream-Foo", "nor this"),
    ("If_Match", "nor is this one carried"),
    ("X-Upstream", "nothing behind it"),
)
GOES_BACK = (
    ("Content-Type", "application/json"),
    ("Content-Length", "12"),
    ("Content-Encoding", "gzip"),
    ("ETag", 'W/"a"'),
    ("Location", "https://slack.com/elsewhere"),
    ("WWW-Authenticate", 'Bearer realm="salesforce"'),
    ("RateLimit", '"default";r=50;t=30'),
    ("RateLimit-Policy", '"default";q=100;w=60'),
    ("RateLimit-Limit", "100"),
    ("X-RateLimit-Remaining", "42"),
    ("X-RateLimit-Reset", "1893456000"),
    ("Retry-After", "Tue, 15 Nov 1994 12:45:26 GMT"),
    ("X-Slack-Req-Id", "f00"),
    ("Link", "<https://slack.com/2>; rel=next"),
    ("Link", "<https://slack.com/9>; rel=last"),
    ("X-Title", "Señor\tÅ"),
)
BAD_VALUES = (
    "a\r\nHost: b", "a\rb", "a\nb", "\r\n", "a\x00b", "\x01", "a\x0bb", "a\x0cb", "\x1f", "a\x7f", "\x80", "a\x85b",
    "\x9f", "a\udcffb", "\ud800",
)  # fmt: skip
BAD_NAMES = ("", " ", " Foo", "Foo ", "F oo", "Foo:", "Foo\r\nHost", "F\x00", "Fö", "(Foo)", "F\u212a", "a/b", '"a"')
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def name(value: object) -> str:
    """Return a short name for a case."""
    return ascii(value)[:60]


def spellings(text: str) -> set[str]:
    """Return ways to write a name that some server takes for it."""
    return {text, text.lower(), text.upper(), text.swapcase(), text.replace("-", "_"), text.lower().replace("-", "_")}


def is_one_of(text: str, names: tuple[str, ...]) -> bool:
    """Say whether a name is one of these in any spelling; `Anything` stands for any ending, and so does nothing."""
    plain = text.lower().replace("_", "-")
    return any(
        plain.startswith(one.removesuffix("anything")) if one.endswith(("anything", "-")) else plain == one
        for one in map(str.lower, names)
    )


def sent(fields: Fields) -> Fields:
    """Return what is sent of fields that are not refused."""
    result = to_upstream(fields)
    assert not isinstance(result, Denial)
    return result


def refused(fields: Fields) -> str:
    """Return the reason why fields are refused."""
    result = to_upstream(fields)
    assert isinstance(result, Denial)
    assert result.status == 400
    assert result.detail.endswith(".")
    assert result.detail.isprintable()
    return result.reason


# --- the method


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
def test_six_methods_are_sent(method: str) -> None:
    """Each as it is, whatever space is around it."""
    assert read_method([method]) == read_method([f" {method}\t"]) == method


def test_without_a_method_post_is_sent() -> None:
    """As the gateway itself is called."""
    assert read_method([]) == "POST"


@pytest.mark.parametrize(
    "values",
    [
        [""],
        ["get"],
        ["CONNECT"],
        ["TRACE"],
        ["OPTIONS"],
        ["GET, GET"],
        ["GET\r\n"],
        ["GET /"],
        ["POST"] * 2,
        ["GET", ""],
    ],
    ids=name,
)
def test_other_methods_are_refused(values: list[str]) -> None:
    """And so is saying it twice, even if both agree."""
    denied = read_method(values)
    assert isinstance(denied, Denial)
    assert (denied.status, denied.reason) == (400, "upstream_method_not_allowed")
    assert "GET, HEAD, POST" in denied.detail


# --- what leaves


@pytest.mark.parametrize("field", CARRIED, ids=name)
def test_fields_with_one_meaning_are_carried(field: tuple[str, str]) -> None:
    """In any case, and unchanged."""
    assert sent([field]) == [field]
    assert sent([(field[0].upper(), f"\t{field[1]} ")]) == [(field[0].upper(), field[1])]


@pytest.mark.parametrize("field", NOT_CARRIED, ids=name)
def test_all_others_stay_here(field: tuple[str, str]) -> None:
    """Without a word: callers' libraries add many of them."""
    assert sent([field]) == []


@pytest.mark.parametrize("value", BAD_VALUES, ids=name)
def test_what_stays_here_is_not_judged(value: str) -> None:
    """Its value can do no harm."""
    assert sent([("X-Api-Key", value), ("Cookie", value)]) == []


def test_behind_the_prefix_goes_what_the_caller_wants() -> None:
    """In its own case, in order, and more than once."""
    assert sent(
        [
            ("X-Upstream-X-Api-Key", "k"),
            ("x-upstream-accept-encoding", "gzip"),
            ("X-UPSTREAM-User-Agent", " me \t"),
            ("X-Upstream-Tag", "a"),
            ("X-Upstream-Tag", "b"),
            ("X-Upstream-api_key", "Señor"),
            ("X-Upstream-Empty", ""),
        ]
    ) == [
        ("X-Api-Key", "k"),
        ("accept-encoding", "gzip"),
        ("User-Agent", "me"),
        ("Tag", "a"),
        ("Tag", "b"),
        ("api_key", "Señor"),
        ("Empty", ""),
    ]


def test_the_prefix_wins_over_the_plain_field() -> None:
    """In any order and spelling, over all of that name."""
    plain = [("Content-Type", "a/a"), ("accept", "b/b"), ("Accept", "c/c"), ("Range", "bytes=0-1")]
    asked = [("X-Upstream-content_type", "d/d"), ("X-UPSTREAM-ACCEPT", "e/e")]
    wanted = [("Range", "bytes=0-1"), ("content_type", "d/d"), ("ACCEPT", "e/e")]
    assert sent(plain + asked) == sent(asked + plain) == wanted


@pytest.mark.parametrize("forbidden", NEVER_SENT)
def test_what_is_not_a_callers_to_set_is_refused(forbidden: str) -> None:
    """In any spelling, and its caller is told which one it was."""
    for spelling in spellings(forbidden):
        assert refused([("X-Upstream-" + spelling, "a")]) == "field_not_allowed"
        assert f"X-Upstream-{spelling} " in str(to_upstream([("x-upstream-" + spelling, "a")]))


@pytest.mark.parametrize("bad", BAD_NAMES, ids=name)
def test_names_must_be_tokens(bad: str) -> None:
    """Once the prefix is gone."""
    assert refused([("X-Upstream-" + bad, "a")]) == "field_malformed"


def test_a_letter_that_only_looks_like_one_is_refused() -> None:
    """The Kelvin sign is a k in lower case."""
    assert refused([("Idempotency-\u212aey", "a")]) == "field_malformed"


@pytest.mark.parametrize("value", BAD_VALUES, ids=name)
def test_control_characters_are_refused(value: str) -> None:
    """And what is not UTF-8, in any field that would leave."""
    assert refused([("X-Upstream-Foo", value)]) == "field_malformed"
    assert refused([("Accept", value)]) == "field_malformed"


@pytest.mark.parametrize(
    "single",
    ["Content-Type", "Idempotency-Key", "If-Modified-Since", "If-Range", "If-Unmodified-Since", "Range"],
)
def test_what_means_nothing_twice_is_refused(single: str) -> None:
    """Also if the second is spelled in another way, or the values are the same."""
    assert refused([(single, "a"), (single.lower(), "a")]) == "field_repeated"
    other = single.replace("-", "_")
    assert refused([("X-Upstream-" + single, "a"), ("X-Upstream-" + other, "b")]) == "field_repeated"
    assert single.lower() in str(to_upstream([(single, "a"), (single, "b")]))
    assert sent([(single, "a"), (single, "b"), ("X-Upstream-" + single, "c")]) == [(single, "c")]


def test_lists_may_be_repeated() -> None:
    """They mean the same in one line or in two."""
    fields = [("Accept", "a/a"), ("Accept", "b/b"), ("If-None-Match", '"a"'), ("If-None-Match", '"b"')]
    assert sent(fields) == fields


def test_what_connection_nominates_stays_here() -> None:
    """It was for the gateway alone: RFC 9110, section 7.6.1."""
    assert sent(
        [
            ("Accept", "a/a"),
            ("X-Upstream-Foo", "a"),
            ("X-Upstream-Bar", "b"),
            ("Prefer", "wait=1"),
            ("connection", "close, ACCEPT"),
            ("Connection", "\tx-upstream-foo ,,"),
        ]
    ) == [("Prefer", "wait=1"), ("Bar", "b")]


def test_words_to_the_gateway_are_no_fields() -> None:
    """The method and the credential are read by functions of their own."""
    assert sent([("X-Upstream-Method", "GET"), ("x-upstream-METHOD", "\x00"), ("X-Upstream-Authorization", "a")]) == []


# --- credentials


def test_a_callers_own_credential_is_read() -> None:
    """Or its absence; the gateway's own Authorization is never it."""
    assert read_authorization([("X-UPSTREAM-authorization", " Bearer a ")]) == "Bearer a"
    assert read_authorization([("Authorization", "Bearer of-the-gateway"), ("X-Upstream-Foo", "a")]) is None


@pytest.mark.parametrize("value", BAD_VALUES, ids=name)
def test_a_credential_has_no_control_characters(value: str) -> None:
    """Like any field."""
    denied = read_authorization([("X-Upstream-Authorization", value)])
    assert isinstance(denied, Denial)
    assert denied.reason == "field_malformed"


def test_a_credential_is_not_repeated() -> None:
    """It would be a guess which one counts."""
    denied = read_authorization([("X-Upstream-Authorization", "a"), ("x-upstream-AUTHORIZATION", "a")])
    assert denied == Denial(400, "field_repeated", "The field authorization may be given once.")


def test_a_stored_credential_replaces_what_has_its_name() -> None:
    """Whatever it is called and however it is spelled; a refreshed one replaces the first."""
    fields = sent([("X-Upstream-x_api_KEY", "mine"), ("Accept", "a/a"), ("X-Upstream-Authorization", "mine")])
    once = with_credential(fields, "X-Api-Key", "stored")
    assert once == [("Accept", "a/a"), ("X-Api-Key", "stored")]
    assert with_credential(once, "x-api-key", "fresh") == [("Accept", "a/a"), ("x-api-key", "fresh")]


# --- what comes back


@pytest.mark.parametrize("field", GOES_BACK, ids=name)
def test_what_the_upstream_says_goes_back(field: tuple[str, str]) -> None:
    """Unchanged, its own limits too."""
    assert from_upstream([field]) == [field, VIA]


def test_order_and_repetition_are_kept() -> None:
    """They may have a meaning."""
    assert from_upstream(GOES_BACK) == [*GOES_BACK, VIA]


@pytest.mark.parametrize("dropped", NEVER_BACK)
def test_what_is_not_for_the_caller_is_dropped(dropped: str) -> None:
    """In any spelling."""
    for spelling in spellings(dropped):
        assert from_upstream([(spelling, "a"), ("ETag", '"a"')]) == [("ETag", '"a"'), VIA]


def test_what_connection_nominates_goes_no_further() -> None:
    """But a length stays: framing is not the upstream's to take out."""
    fields = [("X-Hop", "a"), ("Connection", "close, x-hop"), ("x_hop", "b"), ("Content-Length", "1"), ("A", "b")]
    assert from_upstream([*fields, ("CONNECTION", " Content-Length ")]) == [("Content-Length", "1"), ("A", "b"), VIA]


def test_a_coded_body_has_no_length() -> None:
    """Where both stand, the coding alone counts."""
    assert from_upstream([("Content-Length", "5"), ("transfer-encoding", "chunked")]) == [VIA]


def test_the_way_is_recorded() -> None:
    """Behind those that the answer has passed before."""
    assert from_upstream([("Via", "1.1 google")]) == [("Via", "1.1 google"), VIA]


@pytest.mark.parametrize("value", BAD_VALUES, ids=name)
def test_control_characters_become_spaces(value: str) -> None:
    """So an answer is passed on, and nothing hides in it."""
    ((_, passed), _) = from_upstream([("X-Foo", value)])
    assert passed == re.sub(r"[\x00-\x1f\x7f-\x9f\ud800\udcff]", " ", value).strip()


@pytest.mark.parametrize("bad", BAD_NAMES, ids=name)
def test_what_has_no_name_is_dropped(bad: str) -> None:
    """There is nothing it could mean."""
    assert from_upstream([(bad, "a")]) == [VIA]


# --- whatever is said

known = st.sampled_from([*NEVER_SENT, *NEVER_BACK, *(name for name, _ in (*CARRIED, *NOT_CARRIED, *GOES_BACK))])
spelled = st.tuples(known, st.sampled_from([str.lower, str.upper, str.title]), st.sampled_from("-_")).map(
    lambda parts: parts[1](parts[0]).replace("-", parts[2])
)
names = st.one_of(
    spelled,
    spelled.map("X-Upstream-".__add__),
    spelled.map("x-UPSTREAM-x-upstream-".__add__),
    st.text(max_size=10),
    st.text(max_size=10).map("X-Upstream-".__add__),
)
values = st.one_of(st.text(max_size=20), spelled, st.sampled_from(BAD_VALUES), st.just("ok"))
heads = st.lists(st.tuples(names, values), max_size=8)


@settings(max_examples=500)
@given(fields=heads)
def test_nothing_forbidden_leaves(fields: Fields) -> None:
    """Whatever is said together, nor does anything that could be read as more than one field."""
    result = to_upstream(fields)
    if isinstance(result, Denial):
        assert result.status == 400
        return
    for sent_name, value in result:
        assert not is_one_of(sent_name, (*NEVER_SENT, "Authorization"))
        assert re.fullmatch(r"[!-~]+", sent_name)
        assert not CONTROL.search(value)
        assert value == value.strip(" \t")
        value.encode()


@settings(max_examples=300)
@given(field=st.tuples(names, values))
def test_what_leaves_was_said(field: tuple[str, str]) -> None:
    """Each field by itself leaves as it is, without its prefix; nothing is made up."""
    result = to_upstream([field])
    if not isinstance(result, Denial) and result:
        ((sent_name, value),) = result
        assert sent_name in {field[0], field[0][len("X-Upstream-") :]}
        assert value == field[1].strip(" \t")


@settings(max_examples=500)
@given(fields=heads, stored=st.sampled_from(["Authorization", "X-Api-Key", "Accept"]))
def test_a_stored_credential_is_the_only_one(fields: Fields, stored: str) -> None:
    """Whatever the caller says."""
    result = to_upstream(fields)
    if not isinstance(result, Denial):
        ours = [field for field in with_credential(result, stored, "stored") if is_one_of(field[0], (stored,))]
        assert ours == [(stored, "stored")]


@settings(max_examples=500)
@given(fields=heads)
def test_nothing_of_ours_comes_back(fields: Fields) -> None:
    """Nor what an aiohttp server would refuse to write, or tear apart."""
    *passed, via = from_upstream(fields)
    assert via == VIA
    for back_name, value in passed:
        assert not is_one_of(back_name, NEVER_BACK)
        assert re.fullmatch(r"[!-~]+", back_name)
        assert not CONTROL.search(value)
        value.encode()
