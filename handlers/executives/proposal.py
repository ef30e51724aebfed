"""Owns what an executive may propose to its subscriber: the function that a model calls, and the check of what it says.

Must not know what becomes of a proposal.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

NAME = "propose_approval"
_LONGEST = 16_384

_Words = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]
Risk = Literal["low", "medium", "high"]


class Proposal(BaseModel):
    """Something to be done with the subscriber's consent, and for how long that can be given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Annotated[_Words, Field(max_length=500, description="What is to be done, as one sentence.")]
    type: Annotated[
        str,
        Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$", description="Its kind, as in payment, contract, hiring, message."),
    ]
    value: Annotated[Decimal | None, Field(ge=0, max_digits=15, decimal_places=2, description="What it costs.")] = None
    currency: Annotated[str | None, Field(pattern=r"^[A-Z]{3}$", description="Of the value, as in USD.")] = None
    risk: Annotated[Risk, Field(description="What can go wrong: low, medium or high.")] = "medium"
    expires_in_hours: Annotated[int, Field(ge=1, le=720, description="For how long it can be decided.")] = 72

    @model_validator(mode="after")
    def _has_a_currency(self) -> "Proposal":
        if (self.value is None) != (self.currency is None):
            raise ValueError("a value has a currency, and a currency a value")
        return self


def read_proposal(arguments: str) -> Proposal | None:
    """Return what a model's call says; None if it is not what was asked for in any way."""
    if len(arguments) > _LONGEST:
        return None
    try:
        return Proposal.model_validate_json(arguments)
    except ValidationError:
        return None


TOOL: Final[Mapping[str, Any]] = {
    "type": "function",
    "function": {
        "name": NAME,
        "description": "Ask the subscriber to approve something before it is done.",
        "parameters": {
            "type": "object",
            "additionalProperties": False,
            "required": ["action", "type"],
            "dependentRequired": {"value": ["currency"], "currency": ["value"]},
            "properties": {
                "action": {"type": "string", "description": "What is to be done, as one sentence."},
                "type": {
                    "type": "string",
                    "pattern": "^[a-z][a-z0-9_-]{0,39}$",
                    "description": "Its kind, as in payment, contract, hiring, message.",
                },
                "value": {"type": "number", "minimum": 0, "description": "What it costs, if it costs something."},
                "currency": {"type": "string", "pattern": "^[A-Z]{3}$", "description": "Of the value, as in USD."},
                "risk": {"type": "string", "enum": ["low", "medium", "high"]},
                "expires_in_hours": {"type": "integer", "minimum": 1, "maximum": 720},
            },
        },
    },
}
