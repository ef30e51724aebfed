"""Owns what the configuration may say about logs."""

from pydantic import BaseModel, ConfigDict, Field


class LogSettings(BaseModel):
    """Where log lines go: `path` empty means standard error."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    path: str = ""
    level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    access: bool = True
