"""Secrets at rest: what opens a seal, and what does not."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from sovren_edge.gateway.credentials.sealing import Sealer, SealError, make_keys, make_sealer, read_keys

ONE, TWO = bytes(range(32)), bytes(range(32, 64))
KEY = base64.b64encode(ONE).decode()
FOR = ("founder", "slack", "slack.com")


@given(secret=st.binary(max_size=200), bound=st.lists(st.text(max_size=20), max_size=4))
def test_what_was_sealed_is_opened(secret: bytes, bound: list[str]) -> None:
    """And is not in the seal."""
    sealer = Sealer({"one": ONE})
    seal = sealer.seal(secret, *bound)
    assert sealer.open(seal, *bound) == secret
    assert len(secret) < 4 or secret not in seal
    assert seal != sealer.seal(secret, *bound)


@pytest.mark.parametrize(
    "other",
    [("other", "slack", "slack.com"), ("founder", "zoom", "slack.com"), ("founder", "slack", "in.slack.com"),
     ("founderslack", "", "slack.com"), ("founder", "slack"), ()],
)  # fmt: skip
def test_it_opens_for_nothing_else(other: tuple[str, ...]) -> None:
    """A row that was copied is of no use."""
    sealer = Sealer({"one": ONE})
    with pytest.raises(SealError, match="something else"):
        sealer.open(sealer.seal(b"token", *FOR), *other)


def test_no_changed_byte_opens() -> None:
    """Wherever it stands, nor a seal that was cut."""
    sealer = Sealer({"one": ONE})
    seal = sealer.seal(b"token", *FOR)
    for at in range(len(seal)):
        with pytest.raises(SealError):
            sealer.open(seal[:at] + bytes([seal[at] ^ 1]) + seal[at + 1 :], *FOR)
        with pytest.raises(SealError):
            sealer.open(seal[:at], *FOR)


def test_keys_are_rotated() -> None:
    """What the old one sealed opens as long as it is there."""
    seal = Sealer({"one": ONE}).seal(b"token", *FOR)
    rotated = Sealer({"two": TWO, "one": ONE})
    assert rotated.open(seal, *FOR) == b"token"
    assert Sealer({"two": TWO}).open(rotated.seal(b"token", *FOR), *FOR) == b"token"
    with pytest.raises(SealError, match="'one', which is not configured"):
        Sealer({"two": TWO}).open(seal, *FOR)
    with pytest.raises(SealError):
        Sealer({"one": TWO}).open(seal, *FOR)


def test_keys_are_read() -> None:
    """By their names, in order."""
    text = f"two:{base64.b64encode(TWO).decode()}, one:{base64.b64encode(ONE).decode()}"
    assert list(read_keys(text).items()) == [("two", TWO), ("one", ONE)]


@pytest.mark.parametrize(
    "text",
    ["", "one", "one:", "one:short", "one:not base64!", f":{KEY}", f"one:{KEY},one:{KEY}", f"{'x' * 33}:{KEY}"],
)  # fmt: skip
def test_what_is_no_key_is_told_without_it(text: str) -> None:
    """The form is named, not the value."""
    with pytest.raises(ValueError, match="name:BASE64") as caught:
        read_keys(text)
    assert "short" not in str(caught.value)


def test_keys_are_made() -> None:
    """In the form that they are read in, each its own; without any there is nothing to seal with."""
    sealer = make_sealer(SecretStr(make_keys()))
    assert sealer is not None
    assert sealer.open(sealer.seal(b"token"), *()) == b"token"
    assert make_keys() != make_keys()
    assert make_sealer(None) is None
