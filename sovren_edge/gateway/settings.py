"""Owns what the configuration may say about the egress gateway."""

import re
from collections import Counter
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FilePath, SecretStr, field_validator, model_validator

from sovren_edge.auth.networks import Network
from sovren_edge.gateway.credentials.sealing import make_keys, read_keys
from sovren_edge.gateway.egress.policy import is_entry
from sovren_edge.secret import Secret, made_by


def _entry(text: str) -> str:
    if not is_entry(text) or "." not in text:
        raise ValueError("the name of a host in lower case, as in api.example.com; those below it are meant as well")
    return text


def _keys(secret: SecretStr) -> SecretStr:
    read_keys(secret.get_secret_value())
    return secret


MOST_HOURLY = 100_000
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


_GLOB = re.compile(r"""(/(\*?[!"$-)+-.0->@-\[\]-~])*\*?)+(/\*\*)?|/\*\*""")


def _glob(text: str) -> str:
    if _GLOB.fullmatch(text) is None:
        raise ValueError("a path as in /api/chat.* or /v1/**: ** only at its end, and neither a query nor a space")
    return text


Glob = Annotated[str, AfterValidator(_glob)]
# A million dollars: the sum of a few million of these is still a number of PostgreSQL's.
MOST_MICROUSD = 1_000_000_000_000
Budget = Annotated[int, Field(ge=1, le=MOST_MICROUSD)]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class PriceSettings(BaseModel):
    """What one request costs, or one MB of its bodies; a service, a method or a path that is left out is any."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    service: Service | None = None
    method: Method | None = None
    path: Glob | None = None
    unit: Literal["request", "MB"] = "request"
    amount_microusd: int = Field(ge=0, le=MOST_MICROUSD)


class BudgetSettings(BaseModel):
    """What a subscriber may spend in a day or a month (UTC): `soft` is told of, `hard` is never exceeded."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    period: Literal["day", "month"] = "month"
    soft_microusd: Budget | None = None
    hard_microusd: Budget | None = None

    @property
    def basis_microusd(self) -> int:
        """What is told in parts of a hundred: the soft one, or where there is none, the hard one."""
        return self.soft_microusd or self.hard_microusd or 0

    @model_validator(mode="after")
    def _is_a_budget(self) -> Self:
        if not self.basis_microusd:
            raise ValueError("soft_microusd, hard_microusd, or both")
        if self.basis_microusd > (self.hard_microusd or self.basis_microusd):
            raise ValueError("a soft_microusd that is at most hard_microusd")
        return self


Budgeted = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class GatewaySettings(BaseModel):
    """Where subscribers may call, how often and at what price, and how long that is remembered.

    `credential_keys` seal what is kept of their secrets; `journal_bytes` hold rows while PostgreSQL is away. More than
    one of `processes` share the limit in `redis`.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    processes: int = Field(default=1, ge=1, le=64)
    hourly_limit: int = Field(default=100, ge=1, le=MOST_HOURLY)
    founder_hourly_limit: int | None = Field(default=None, ge=1, le=MOST_HOURLY)
    journal_bytes: int = Field(default=1 << 28, ge=1 << 20, le=1 << 30)
    services: dict[Service, ServiceSettings] = {}
    credential_keys: Keys | None = None
    price_version: str = Field(default="", max_length=64, pattern=r"^[!-~]*$")
    prices: tuple[PriceSettings, ...] = ()
    budgets: dict[Budgeted, BudgetSettings] = {}
    retention_days: int = Field(default=90, ge=1, le=3650)
    redis: Secret | None = None
    rehearsal: RehearsalSettings | None = None

    @field_validator("redis")
    @classmethod
    def _is_a_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and urlsplit(url.get_secret_value()).scheme not in {"redis", "rediss", "unix"}:
            raise ValueError("the secret is not of the form redis[s]://user:password@host:6379/0, or unix:///path")
        return url

    @model_validator(mode="after")
    def _prices_are_clear(self) -> Self:
        if self.prices and not self.price_version:
            raise ValueError("a price_version, by which costs tell the prices that they were reckoned by")
        counts = Counter((price.service, price.method, price.path) for price in self.prices)
        if any(count > 1 for count in counts.values()):
            raise ValueError("one price for the same service, method and path")
        return self

    @property
    def hosts(self) -> dict[str, tuple[str, ...]]:
        """The entries of each service."""
        return {name: service.hosts for name, service in self.services.items()}


def replaces(old: GatewaySettings, new: GatewaySettings) -> bool:
    """Return whether new settings take a new process: they say where what it knows is kept, and how much of it."""
    return (old.redis, old.journal_bytes) != (new.redis, new.journal_bytes)
