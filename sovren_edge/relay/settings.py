"""Owns what the configuration may say about the balancers' data path: time-outs and limits."""

from pydantic import BaseModel, ConfigDict, Field


class RelaySettings(BaseModel):
    """Time-outs in seconds and sizes in bytes; they hold for every balanced port."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    head_timeout_s: float = Field(default=10.0, gt=0)
    keepalive_timeout_s: float = Field(default=75.0, gt=0)
    body_timeout_s: float = Field(default=30.0, gt=0)
    connect_timeout_s: float = Field(default=2.0, gt=0)
    first_byte_timeout_s: float = Field(default=120.0, gt=0)
    idle_timeout_s: float = Field(default=60.0, gt=0)
    total_timeout_s: float | None = Field(default=None, gt=0)
    tunnel_timeout_s: float = Field(default=3600.0, gt=0)
    head_limit: int = Field(default=32768, ge=1024)
    kept_body_limit: int = Field(default=65536, ge=0)
    buffers_limit: int = Field(default=268435456, ge=0)
    idle_connections_per_endpoint: int = Field(default=64, ge=0)
