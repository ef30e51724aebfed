"""Proxy-Status: that parsers read in it what was meant, and that no address gets out by it."""

import re
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovren_edge.gateway.egress.proxy_status import ProxyError, failed, received, without_addresses

# The registry that RFC 9209 has begun, without what a gateway that neither decodes nor switches protocols can meet.
REGISTERED = {
    "dns_timeout", "dns_error", "destination_not_found", "destination_unavailable", "destination_ip_prohibited",
    "destination_ip_unroutable", "connection_refused", "connection_terminated", "connection_timeout",
    "connection_read_timeout", "connection_write_timeout", "connection_limit_reached", "tls_protocol_error",
    "tls_certificate_error", "tls_alert_received", "http_request_error", "http_request_denied",
    "http_response_incomplete", "http_response_header_section_size", "http_response_header_size",
    "http_response_body_size", "http_response_transfer_coding", "http_response_timeout", "http_protocol_error",
    "proxy_internal_response", "proxy_internal_error", "proxy_configuration_error",
}  # fmt: skip
PARAMETER = re.compile(r';([a-z*][a-z0-9_.*-]*)=(?:([0-9]{1,15})|([A-Za-z*][A-Za-z0-9_]*)|"((?:[^"\\]|\\["\\])*)")')


def parsed(value: str) -> tuple[str, dict[str, int | str]]:
    """Read a list of one member as RFC 9651 describes it, strings as they were before they were written."""
    member = re.match(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*", value)
    assert member is not None
    parameters: dict[str, int | str] = {}
    at = member.end()
    while at < len(value):
        found = PARAMETER.match(value, at)
        assert found is not None, value[at:]
        number, token, string = found[2], found[3], found[4]
        assert string is None or all(" " <= character <= "~" for character in string)
        parameters[found[1]] = int(number) if number else token or re.sub(r"\\(.)", r"\1", string)
        at = found.end()
    return member[0], parameters


def details(text: str) -> int | str:
    """Return the details that a parser reads of a failure."""
    name, value = failed(ProxyError.HTTP_PROTOCOL_ERROR, text)
    assert name == "Proxy-Status"
    return parsed(value)[1]["details"]


def test_an_answer_from_upstream_tells_its_status() -> None:
    """And nothing else."""
    assert received(503) == ("Proxy-Status", "sovren-edge;received-status=503")
    assert parsed(received(200)[1]) == ("sovren-edge", {"received-status": 200})


@pytest.mark.parametrize("error", list(ProxyError))
def test_a_failure_has_a_registered_word(error: ProxyError) -> None:
    """Which is a token, not a string."""
    assert failed(error) == ("Proxy-Status", f"sovren-edge;error={error.value}")


def test_there_is_a_word_for_each() -> None:
    """None is made up, none is lost."""
    assert {error.value for error in ProxyError} == REGISTERED


def test_a_failure_tells_what_is_known() -> None:
    """Also when it came after the upstream's head."""
    assert failed(ProxyError.HTTP_RESPONSE_BODY_SIZE, 'more than "50" MiB \\', 200) == (
        "Proxy-Status",
        r'sovren-edge;error=http_response_body_size;received-status=200;details="more than \"50\" MiB \\"',
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a.b has the address 10.0.0.5, which is not public", "a.b has the address <address>, which is not public"),
        (
            "host a.b:443 [Connect call failed ('192.168.1.1', 443)]",
            "host a.b:443 [Connect call failed ('<address>', 443)]",
        ),
        ("attempt 2-10.0.0.5", "attempt <address>"),
        ("to 127.0.0.1:443", "to <address>:443"),
        ("to [fd00::1]:443", "to [<address>]:443"),
        ("to fe80::1%eth0", "to <address>"),
        ("to ::", "to <address>"),
        ("to ::ffff:10.0.0.1", "to <address>"),
        ("to 64:ff9b::10.0.0.1", "to <address>"),
        ("to fd00:0:0:0:0:0:0:1", "to <address>"),
        ("to ip-10-0-0-5.ec2.internal", "to ip-<address>.ec2.internal"),
        ("to 5.0.0.10.in-addr.arpa", "to <address>.in-addr.arpa"),
        ("to 0010.0000.0.00001", "to <address>"),
        ("to 8.8.8.8 as well", "to <address> as well"),
        ("HTTP/1.1 after 12.5 s, on port a:443", "HTTP/1.1 after 12.5 s, on port a:443"),
        ("\u0661\u0660.0.0.1", "??.0.0.1"),
        ("Señor\r\n\x00", "Se?or???"),
    ],
)
def test_details_name_no_address(text: str, told: str) -> None:
    """In none of the forms that libraries write, and they are ASCII."""
    assert details(text) == told


def test_details_are_short() -> None:
    """An address at the cut is gone before it is cut."""
    assert details("x" * 500) == "x" * 200
    assert details("x" * 190 + "10.200.200.200") == "x" * 190 + "<address>"
    assert details("x" * 195 + "10.200.200.200") == "x" * 195 + "<addr"


@settings(max_examples=500)
@given(text=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=190))
def test_other_details_are_read_back(text: str) -> None:
    """As they are, quotes and backslashes and all."""
    if without_addresses(text) == text:
        assert details(text) == text


@settings(max_examples=500)
@given(text=st.text(min_size=1, max_size=300), status=st.none() | st.integers(100, 599))
def test_any_details_are_a_string(text: str, status: int | None) -> None:
    """Nothing in them ends it, or the field."""
    value = failed(ProxyError.DNS_ERROR, text, status)[1]
    member, parameters = parsed(value)
    assert member == "sovren-edge"
    assert parameters.get("received-status") == status
    assert set(parameters) - {"received-status"} == {"error", "details"}
    assert all(" " <= character <= "~" for character in value)


addresses = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number))),
    st.integers(0, 2**128 - 1).map(lambda number: str(IPv6Address(number))),
    st.integers(0, 2**128 - 1).map(lambda number: IPv6Address(number).exploded.upper()),
    st.integers(0, 2**32 - 1).map(lambda number: f"::ffff:{IPv4Address(number)}"),
    st.tuples(st.integers(0, 2**64 - 1), st.sampled_from(["eth0", "1"])).map(
        lambda parts: f"{IPv6Address((0xFE80 << 112) + parts[0])}%{parts[1]}"
    ),
)
around = st.text(st.sampled_from("xyz ,;()[]'\"\\/-_%|=\n"), max_size=20)


@settings(max_examples=1000)
@given(before=around, address=addresses, after=around)
def test_no_address_is_told(before: str, address: str, after: str) -> None:
    """Wherever it stands: no digit of it is left."""
    told = str(details(before + address + after))
    assert "<address>" in told
    assert not re.search(r"[0-9:]", told.replace("<address>", ""))


def test_long_runs_take_no_time() -> None:
    """Digits in any number are looked at once."""
    for text in ("1" * 200_000, "a" * 200_000, "1." * 100_000 + "x", "a:" * 100_000, "1" * 100_000 + ":"):
        assert details(text) is not None
