"""Owns what the configuration may say about logs and traces."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LogSettings(BaseModel):
    """Where log lines go: `path` empty means standard error."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    path: str = ""
    level: Literal["debug", "info", "warning", "error"] = "info"
    access: bool = True


class TracingSettings(BaseModel):
    """Where spans are sent to, over OTLP by HTTP; `sample` is the share of traces that begin here and are recorded."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    # Whoever must log in there is named by OTEL_EXPORTER_OTLP_HEADERS: a secret has no place in a file.
    endpoint: str | None = Field(default=None, pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")
    sample: float = Field(default=1.0, ge=0, le=1)
