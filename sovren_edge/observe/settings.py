"""Owns what the configuration may say about logs."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class LogSettings(BaseModel):
    """Where log lines go: `path` empty means standard error."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    path: str = ""
    level: Literal["debug", "info", "warning", "error"] = "info"
    access: bool = True
