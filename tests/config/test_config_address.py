"""An endpoint is written in one way, and read back as it was written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovren_edge.config.address import Address, is_loopback, parse_endpoint
from sovren_edge.config.sketch import flatten

PORTS = st.integers(1, 65535)
LABELS = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(LABELS, min_size=2, max_size=4).map(".".join)
HOSTS = st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str), NAMES)


@given(HOSTS, PORTS)
def test_an_address_is_read_as_it_is_written(host: str, port: int) -> None:
    """Both families, and names."""
    address = Address(host, port)
    assert parse_endpoint(str(address), {"node": "10.0.0.1"}) == address


@given(st.text())
def test_any_text_is_an_address_or_a_fault(text: str) -> None:
    """No other exception."""
    try:
        address = parse_endpoint(text, {})
    except ValueError:
        return
    assert 1 <= address.port <= 65535


@given(LABELS, PORTS)
def test_a_node_is_replaced_by_its_address(node: str, port: int) -> None:
    """Its name says where it is."""
    assert parse_endpoint(f"{node}:{port}", {node: "10.0.0.1"}) == Address("10.0.0.1", port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        ":80",
        "host:",
        "host:0",
        "host:65536",
        "host:\u0661",
        "1.2.3:80",
        "01.2.3.4:80",
        "::1:80",
        "[::1]",
        "[1.2.3.4]:80",
        "-a.b:80",
        "a..b:80",
        "a b.c:80",
        "http://a.b:80",
        "a.b:80\n",
    ],
)
def test_what_is_no_address(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match=r"\w"):
        parse_endpoint(text, {})


def test_a_bare_word_beside_nodes_is_a_misspelt_node() -> None:
    """Without nodes it is a host."""
    with pytest.raises(ValueError, match=r"unknown node g376; did you mean g367\?"):
        parse_endpoint("g376:80", {"g367": "10.0.0.1"})
    with pytest.raises(ValueError, match="its full name"):
        parse_endpoint("redis:80", {"g367": "10.0.0.1"})
    assert parse_endpoint("redis:80", {}) == Address("redis", 80)
    assert parse_endpoint("localhost:80", {"g367": "10.0.0.1"}) == Address("localhost", 80)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("LocalHost", True), ("10.0.0.1", False), ("a.b", False)],
)
def test_loopback(host: str, *, expected: bool) -> None:
    """By address or by its one name."""
    assert is_loopback(host) is expected


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdefg")).map(tuple)))
def test_flattening_ends_and_yields_each_pool_once(tiers: dict[str, tuple[str, ...]]) -> None:
    """Whatever contains whatever, unknown pools too."""
    for pool in tiers:
        leaves = flatten(pool, tiers)
        assert len(set(leaves)) == len(leaves)
        assert all(tiers[leaf] == () for leaf in leaves)
