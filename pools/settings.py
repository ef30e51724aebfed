"""Owns what a pool's table in the configuration may say.

Must not know how addresses are found: an endpoint is written as `host:port` or `node:port`.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ProbeSettings(BaseModel):
    """How an endpoint's health is asked for."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    path: str = Field(default="/health", pattern=r"^/[!-~]*$")
    interval_s: float = Field(default=2.0, gt=0)
    timeout_s: float = Field(default=1.5, gt=0)
    fall: int = Field(default=3, ge=1)
    rise: int = Field(default=2, ge=1)
    unhealthy: dict[str, str | int | bool | None] = {}


class QueueSettings(BaseModel):
    """How many requests may wait for a slot, and how long."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    limit: int = Field(default=256, ge=0)
    timeout_s: float = Field(default=30.0, gt=0)


class UpstreamTls(BaseModel):
    """How endpoints are reached over TLS: who signs for them (empty: the system's authorities), and by which name."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    ca: str | None = None
    name: str = ""


class DnsSettings(BaseModel):
    """Where DNS names a pool's endpoints: addresses (A, AAAA) for a `port`, or services (SRV), which name their own.

    `server` is whom to ask, as `address:port`, instead of the system's servers.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9.])?$")
    port: int | None = Field(default=None, ge=1, le=65535)
    server: str = Field(default="", pattern=r"^([0-9.]+:[0-9]{1,5}|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5})?$")


class PoolSettings(BaseModel):
    """A pool has endpoints of its own, or those that DNS names, or tiers: other pools in order of preference."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    kind: Literal["speech", "generic"] = "generic"
    endpoints: tuple[str, ...] = ()
    dns: DnsSettings | None = None
    tiers: tuple[str, ...] = ()
    slots: int = Field(default=64, ge=1)
    repeatable: bool = False
    interchangeable: bool = False
    deterministic: bool = False
    coalesce: bool = True
    keep_bytes: int = Field(default=0, ge=0)
    formats: tuple[str, ...] = ()
    models: dict[str, str] = {}
    voices: dict[str, str] = {}
    overdue_s: float = Field(default=0.4, ge=0)
    local: Literal["speech"] | None = None
    tls: UpstreamTls | None = None
    probe: ProbeSettings = ProbeSettings()
    queue: QueueSettings = QueueSettings()

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.endpoints) + bool(self.tiers) + (self.dns is not None) != 1:
            raise ValueError("a pool has endpoints, dns or tiers, and only one of them")
        if self.interchangeable and self.kind != "speech":
            raise ValueError("only speech can be spoken in parts by interchangeable endpoints")
        return self
