"""Owns what callers of interactions send and receive; see contracts of the portal in docs/executives.md.

Must not know how an answer is made.
"""

import json
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

LONGEST_CONTEXT = 16_384

# PostgreSQL stores every character but NUL.
Text = Annotated[str, Field(min_length=1, max_length=8000, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]
ExecutiveId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="As in /executives/list.")]
AudioWanted = Annotated[
    Literal["url", "base64", "none"],
    Field(description="How speech is wanted: where it can be fetched, that and the bytes themselves, or not at all."),
]


def _short(context: JsonValue) -> JsonValue:
    written = context if isinstance(context, str) else json.dumps(context, ensure_ascii=False)
    if len(written) > LONGEST_CONTEXT:
        raise ValueError(f"the context is longer than {LONGEST_CONTEXT} characters")
    return context


class Shape(BaseModel):
    """JSON whose names are written like `executiveId`."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, frozen=True)


class Wanted(Shape):
    """What every request for an answer says; fields of several models are shared by inheritance alone in pydantic."""

    audio: AudioWanted = "url"


class Question(Wanted):
    """Something to ask an executive."""

    executive_id: ExecutiveId
    message: Text
    context: Annotated[JsonValue, AfterValidator(_short), Field(description="What the model is told beside it.")] = None
    session_id: UUID | None = Field(default=None, description="Of an earlier answer, to go on with its conversation.")


class BriefingWanted(Wanted):
    """By whom a briefing is to be spoken; the CEO, where nobody is named."""

    executive_id: ExecutiveId | None = None


class Audio(Shape):
    """An answer as speech: WAV, 24 kHz, 16 bits, mono; `error` says why there is none."""

    format: Literal["wav"] = "wav"
    duration: float = Field(default=0.0, description="In seconds.")
    url: str | None = Field(default=None, description="Needs no token; gone after a while.")
    base64: str | None = None
    error: str | None = None


class Proposed(Shape):
    """An approval that an answer asks for; decided at /executives/pending-approvals."""

    id: UUID
    action: str
    expires_at: datetime


class Answer(Shape):
    """What an executive says."""

    executive_id: str
    response: str
    timestamp: datetime
    session_id: UUID
    audio: Audio | None = None
    approval: Proposed | None = None
    sources: dict[str, Any] | None = Field(default=None, description="Of a briefing: what was known.")
