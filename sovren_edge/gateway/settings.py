"""Owns what the configuration may say about the egress gateway."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sovren_edge.auth.networks import Network
from sovren_edge.gateway.policy import is_entry


def _entry(text: str) -> str:
    if not is_entry(text) or "." not in text:
        raise ValueError("the name of a host in lower case, as in api.example.com; those below it are meant as well")
    return text


Entry = Annotated[str, AfterValidator(_entry)]
Service = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]


class ServiceSettings(BaseModel):
    """One external service: the hosts that may be called, with those below them, and whether a refusal holds."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    hosts: tuple[Entry, ...] = Field(min_length=1)
    mode: Literal["enforce", "report"] = "enforce"


class RehearsalSettings(BaseModel):
    """A stage for tests, with --local alone: who is asked for names, and which networks may be called all the same."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    dns: str = Field(default="", pattern=r"^(([0-9.]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5})?$")
    networks: tuple[Network, ...] = ()


class GatewaySettings(BaseModel):
    """Where subscribers may call, by service."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    services: dict[Service, ServiceSettings] = {}
    rehearsal: RehearsalSettings | None = None

    @property
    def hosts(self) -> dict[str, tuple[str, ...]]:
        """The entries of each service."""
        return {name: service.hosts for name, service in self.services.items()}
