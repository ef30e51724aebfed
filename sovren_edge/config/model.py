"""Owns what `config.toml` may say, table by table.

Must not know how one setting contradicts another (that is `listeners` and `pools`), nor what one node makes of it all
(that is `plan`).
"""

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pools.settings import PoolSettings
from sovren_edge.auth.networks import Network
from sovren_edge.auth.tokens import AuthSettings
from sovren_edge.config.address import parse_service
from sovren_edge.gateway.settings import GatewaySettings
from sovren_edge.handler import Handler
from sovren_edge.observe.settings import LogSettings, TracingSettings
from sovren_edge.relay.settings import RelaySettings
from sovren_edge.store.settings import DatabaseSettings
from sovren_edge.tls import TlsSettings


def _address(text: str) -> str:
    try:
        ip_address(text)
    except ValueError:
        raise ValueError("an IPv4 or IPv6 address") from None
    return text


def _service_url(text: str) -> str:
    parse_service(text)
    return text


Address = Annotated[str, AfterValidator(_address)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
ServiceUrl = Annotated[str, AfterValidator(_service_url)]

PRIVATE: tuple[IPv4Network | IPv6Network, ...] = (
    IPv4Network("127.0.0.0/8"),
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv6Network("::1/128"),
    IPv6Network("fc00::/7"),
)


class WorkerSettings(BaseModel):
    """How a worker's process is run: the cores that it may use (none named: all), and how much it lets others go first.

    `nice` is as for nice(1): from -20 to 19, and below what the program itself has only with the right to it.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    cpus: tuple[Annotated[int, Field(ge=0, le=4095)], ...] = ()
    nice: int = Field(default=0, ge=-20, le=19)


class EdgeSettings(BaseModel):
    """Where the program listens, whom it trusts by address, how its workers are run, and how it stops.

    `drain_s` is how long open requests have to finish, `unready_s` how long before that /ready says 503.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    bind: Address = "0.0.0.0"
    trusted: tuple[Network, ...] = PRIVATE
    drain_s: float = Field(default=30.0, ge=0)
    unready_s: float = Field(default=0.0, ge=0)
    backlog: int = Field(default=1024, ge=1, le=65535)
    connections: int = Field(default=16384, ge=1)
    connections_per_address: int = Field(default=1024, ge=1)
    debug: bool = False
    workers: dict[Literal["balance", "gateway", "handlers", "operate"], WorkerSettings] = {}


class _Listener(BaseModel):
    """What every listener's table may say; fields of several models are shared by inheritance alone in pydantic."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    node: str | None = None
    port: int = Field(ge=1, le=65535)
    service: str | None = Field(default=None, pattern=r"^([a-z][a-z0-9-]{0,62})?$")
    auth: Literal["none"] | None = None
    allow: tuple[Network, ...] = PRIVATE
    tls: TlsSettings | None = None
    proxy_protocol: bool = False
    planned: bool = False


class BalanceListener(_Listener):
    """A port whose requests are balanced over a pool."""

    kind: Literal["balance"]
    pool: str


class StatusListener(_Listener):
    """A port that tells the state of one pool, or of all."""

    kind: Literal["status"]
    pool: str | None = None


class GatewayListener(_Listener):
    """The egress gateway's port."""

    kind: Literal["gateway"]


class HandlerListener(_Listener):
    """A business service's port; `settings` is judged by the handler's own class."""

    kind: Literal["handler"]
    handler: str
    settings: dict[str, object] = {}


Listener = BalanceListener | StatusListener | GatewayListener | HandlerListener


class ConfigFile(BaseModel):
    """Everything that the file may say."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    nodes: dict[Name, Address] = {}
    edge: EdgeSettings = EdgeSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    relay: RelaySettings = RelaySettings()
    auth: AuthSettings = AuthSettings()
    gateway: GatewaySettings = GatewaySettings()
    database: DatabaseSettings = DatabaseSettings()
    services: dict[Name, ServiceUrl] = {}
    pools: dict[Name, PoolSettings] = {}
    listeners: dict[Name, Annotated[Listener, Field(discriminator="kind")]] = {}


class Config(ConfigFile):
    """The file, and for each opened handler listener its handler with judged settings."""

    handlers: Mapping[str, Handler] = {}
