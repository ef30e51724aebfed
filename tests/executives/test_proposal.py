"""What of a model's words becomes a proposal, and what does not."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from handlers.executives.proposal import NAME, TOOL, Proposal, read_proposal

LEAST: dict[str, Any] = {"action": "Sign the contract.", "type": "contract"}
PARAMETERS = TOOL["function"]["parameters"]

sentences = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=499).map("x".__add__)
cents = st.integers(0, 10**14)
proposals = st.fixed_dictionaries(
    {"action": sentences, "type": st.from_regex(r"[a-z][a-z0-9_-]{0,39}", fullmatch=True)},
    optional={"risk": st.sampled_from(["low", "medium", "high"]), "expires_in_hours": st.integers(1, 720)},
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from([*Proposal.model_fields]), inner),
)


@given(proposals, cents)
def test_what_the_function_takes_is_read(given_: dict[str, Any], price: int) -> None:
    """As it was said, and to the cent."""
    told = given_ | {"value": price / 100, "currency": "EUR"}
    Draft202012Validator(PARAMETERS).validate(told)
    read = read_proposal(json.dumps(told))
    assert read is not None
    assert (read.value, read.currency) == (Decimal(price) / 100, "EUR")
    assert read.model_dump(include={*given_}) == given_
    assert read_proposal(json.dumps(given_)) is not None


@given(anything, st.data())
def test_what_is_read_is_what_the_function_takes(told: object, data: st.DataObject) -> None:
    """Of all that a model may say; a number may also be written as text."""
    if data.draw(st.booleans()):
        told = LEAST | {data.draw(st.sampled_from([*Proposal.model_fields, "else"])): told}
    read = read_proposal(json.dumps(told))
    if read is not None:
        said = read.model_dump(exclude_none=True)
        if read.value is not None:
            said["value"] = float(read.value)
        Draft202012Validator(PARAMETERS).validate(said)


@given(st.text())
def test_nothing_that_a_model_writes_is_an_exception(text: str) -> None:
    """What is no JSON is no proposal."""
    read = read_proposal(text)
    assert read is None or isinstance(read, Proposal)


@pytest.mark.parametrize(
    "faulty",
    [
        {"action": ""},
        {"action": " \n"},
        {"action": "a\0b"},
        {"action": "a" * 501},
        {"action": None},
        {"type": "Payment"},
        {"type": "pay ment"},
        {"type": "payment\n"},
        {"type": "p" * 41},
        {"value": 10},
        {"currency": "USD"},
        {"value": -1, "currency": "USD"},
        {"value": 0.001, "currency": "USD"},
        {"value": 10**14, "currency": "USD"},
        {"value": "NaN", "currency": "USD"},
        {"value": True, "currency": "USD"},
        {"value": 10, "currency": "usd"},
        {"value": 10, "currency": "USDT"},
        {"risk": "none"},
        {"expires_in_hours": 0},
        {"expires_in_hours": 721},
        {"expires_in_hours": 1.5},
        {"approved": True},
    ],
    ids=json.dumps,
)
def test_whatever_is_not_as_asked_for_is_no_proposal(faulty: dict[str, Any]) -> None:
    """Nothing is mended, since a subscriber is asked for consent to just these words."""
    assert read_proposal(json.dumps(LEAST)) is not None
    assert read_proposal(json.dumps(LEAST | faulty)) is None


def test_a_flood_is_not_read() -> None:
    """Though it would be a proposal."""
    assert read_proposal(" " * 16_000 + json.dumps(LEAST)) is not None
    assert read_proposal(" " * 16_384 + json.dumps(LEAST)) is None


def test_a_model_is_told_of_all_that_is_checked() -> None:
    """The function has the fields of a proposal, and needs those that have no default."""
    Draft202012Validator.check_schema(PARAMETERS)
    assert TOOL["function"]["name"] == NAME
    assert PARAMETERS["properties"].keys() == Proposal.model_fields.keys()
    assert set(PARAMETERS["required"]) == {name for name, field in Proposal.model_fields.items() if field.is_required()}
