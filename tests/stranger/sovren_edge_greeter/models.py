"""What the greeter's callers send and receive."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

# PostgreSQL stores every character but NUL.
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Times = Annotated[int, Field(ge=1, le=10, description="How often the greeting is said.")]
Limit = Annotated[int, Field(ge=1, le=100, description="At most so many greetings, the newest first.")]


class Spoken(BaseModel):
    """A greeting for now, and the proof that it came from here."""

    lines: list[str]
    signature: str


class NewGreeting(BaseModel):
    """A greeting to remember."""

    name: Text
    text: Text


class Greeting(NewGreeting):
    """A remembered greeting."""

    id: int
    said_at: datetime
