"""Owns what the configuration may say about the egress gateway."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FilePath, SecretStr

from sovren_edge.auth.networks import Network
from sovren_edge.gateway.policy import is_entry
from sovren_edge.gateway.sealing import make_keys, read_keys
from sovren_edge.secret import made_by


def _entry(text: str) -> str:
    if not is_entry(text) or "." not in text:
        raise ValueError("the name of a host in lower case, as in api.example.com; those below it are meant as well")
    return text


def _keys(secret: SecretStr) -> SecretStr:
    read_keys(secret.get_secret_value())
    return secret


Entry = Annotated[str, AfterValidator(_entry)]
Service = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
Keys = Annotated[SecretStr, made_by(make_keys), AfterValidator(_keys)]


class ServiceSettings(BaseModel):
    """One external service: the hosts that may be called, with those below them, and whether a refusal holds.

    Where a credential is required, a request without one is refused.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    hosts: tuple[Entry, ...] = Field(min_length=1)
    mode: Literal["enforce", "report"] = "enforce"
    credential: Literal["optional", "required"] = "optional"


class RehearsalSettings(BaseModel):
    """A stage for tests, with --local alone: a name server, networks that may be called all the same, a server's port.

    `authority` is a file with the certificates that are trusted instead of the system's.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    dns: str = Field(default="", pattern=r"^(([0-9.]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5})?$")
    networks: tuple[Network, ...] = ()
    authority: FilePath | None = None
    port: int = Field(default=443, ge=1, le=65535)


class GatewaySettings(BaseModel):
    """Where subscribers may call, by service, and how often; `credential_keys` seal what is kept of their secrets.

    `journal_bytes` are for rows that PostgreSQL does not take at the moment.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    hourly_limit: int = Field(default=100, ge=1, le=100_000)
    founder_hourly_limit: int | None = Field(default=None, ge=1, le=100_000)
    journal_bytes: int = Field(default=1 << 28, ge=1 << 20, le=1 << 30)
    services: dict[Service, ServiceSettings] = {}
    credential_keys: Keys | None = None
    rehearsal: RehearsalSettings | None = None

    @property
    def hosts(self) -> dict[str, tuple[str, ...]]:
        """The entries of each service."""
        return {name: service.hosts for name, service in self.services.items()}
