"""Owns which worker serves what, and what of the configuration each is told: its own listeners, pools and secrets.

Must not know processes or sockets.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Self

from sovren_edge.auth.tokens import AuthSettings
from sovren_edge.config.model import Config, WorkerSettings
from sovren_edge.config.plan import Plan
from sovren_edge.config.resolved import PlannedListener, ResolvedPool
from sovren_edge.gateway.settings import GatewaySettings, replaces
from sovren_edge.observe.settings import TracingSettings
from sovren_edge.store.settings import DatabaseSettings


class Role(StrEnum):
    """What a worker is for."""

    BALANCE = "balance"
    GATEWAY = "gateway"
    HANDLERS = "handlers"
    OPERATE = "operate"
    # The local stack.
    LOCAL = "local"


# Those that need the database, and the keys of tokens.
STORING = frozenset({Role.GATEWAY, Role.HANDLERS})


@dataclass(frozen=True, slots=True)
class Part:
    """What one worker is told at its start; `doors` are the URLs of services, `database_url` is None without one.

    `settings` are how its process is run, `drain_s` is how long requests have to finish.
    """

    name: str
    role: Role
    plan: Plan
    config: Config
    doors: dict[str, str]
    state_dir: Path
    port_offset: int = 0
    database_url: str | None = None
    drain_s: float = 0.0
    settings: WorkerSettings = field(default_factory=WorkerSettings)

    @classmethod
    def unknown(cls, name: str, plan: Plan) -> Self:
        """Return the part of a worker of which nothing is known but its name; it serves nothing that is known."""
        return cls(name, Role.HANDLERS, replace(plan, listeners=(), pools={}), Config(), {}, Path())


# What a pool goes by whenever it decides; whatever else is said of it, it is made with.
POOL_IN_PLACE = frozenset({
    "endpoints", "slots", "queue", "overdue_s", "formats", "models", "voices", "coalesce", "deterministic",
})  # fmt: skip


def can_become(old: Part, new: Part) -> bool:
    """Whether a running worker can serve another part in the place of its own; otherwise another process has to."""
    in_place: dict[str, object] = {"handlers": old.config.handlers}
    if not replaces(old.config.gateway, new.config.gateway):
        in_place["gateway"] = old.config.gateway
    like_old = replace(
        new,
        # What the gateway keeps belongs to its process.
        plan=new.plan if new.role is Role.GATEWAY else _served_in_place(old.plan, new.plan),
        config=new.config.model_copy(update=in_place),
        doors=old.doors,
        drain_s=old.drain_s,
    )
    both = old.plan.pools.keys() & new.plan.pools.keys()
    return like_old == old and all(_pool_can_become(old.plan.pools[name], new.plan.pools[name]) for name in both)


def _served_in_place(old: Plan, new: Plan) -> Plan:
    """Return what a worker's plan is but for its ports and pools, which change in place."""
    return replace(new, listeners=old.listeners, pools=old.pools)


def _pool_can_become(old: ResolvedPool, new: ResolvedPool) -> bool:
    absent = [{(one.host, one.port) for one in pool.endpoints if one.absent} for pool in (old, new)]
    same = {name: getattr(old.settings, name) for name in POOL_IN_PLACE}
    return new.settings.model_copy(update=same) == old.settings and absent[0] == absent[1]


def role_of(listener: PlannedListener) -> Role:
    """Return which worker serves a listener; the state of one pool is told where the pool is."""
    match listener.kind:
        case "gateway":
            return Role.GATEWAY
        case "handler":
            return Role.HANDLERS
        case "status" if listener.pool is None:
            return Role.OPERATE
        case _:
            return Role.BALANCE


def divide(plan: Plan, config: Config, state_dir: Path, port_offset: int) -> dict[str, Part]:
    """Return every worker's part by the worker's name; there is always one that operates."""
    roles = {Role.OPERATE, *map(role_of, plan.listeners)}
    if plan.local:
        roles.add(Role.LOCAL)
    doors = doors_of(plan, config)
    edge = config.edge
    return {
        name: Part(
            name,
            role,
            _plan_of(plan, role),
            _config_of(config, role),
            doors if role is Role.HANDLERS else {},
            state_dir,
            port_offset,
            drain_s=edge.drain_s,
            settings=next((settings for worker, settings in edge.workers.items() if worker == role), WorkerSettings()),
        )
        for role in Role
        if role in roles
        for name in _names(config, role)
    }


def _names(config: Config, role: Role) -> list[str]:
    count = config.gateway.processes if role is Role.GATEWAY else 1
    return [role.value] if count == 1 else [f"{role.value}-{number + 1}" for number in range(count)]


def _plan_of(plan: Plan, role: Role) -> Plan:
    listeners = tuple(listener for listener in plan.listeners if role_of(listener) is role)
    pools = plan.pools if role is Role.BALANCE else {}
    engines = plan.engines if role is Role.LOCAL else ()
    services = plan.services if role is Role.HANDLERS else {}
    return replace(plan, listeners=listeners, pools=pools, engines=engines, services=services, map=())


def _config_of(config: Config, role: Role) -> Config:
    """Leave out every secret that a role does not need; the balancer knows its callers by their tokens."""
    # Of what only the supervisor goes by, workers have no need to know when it changes.
    supervisors = {"workers": {}, "drain_s": 0.0, "unready_s": 0.0, "backlog": 1}
    hidden: dict[str, object] = {"nodes": {}, "listeners": {}, "pools": {}, "services": {}}
    hidden["edge"] = config.edge.model_copy(update=supervisors)
    if role is not Role.HANDLERS:
        hidden["handlers"] = {}
    if role is not Role.GATEWAY:
        hidden["gateway"] = GatewaySettings()
    if role not in STORING:
        hidden["database"] = DatabaseSettings(schema_name=config.database.schema_name)
    if role in {Role.OPERATE, Role.LOCAL}:
        hidden["auth"] = AuthSettings()
        # They serve nobody whose request is traced.
        hidden["tracing"] = TracingSettings()
    return config.model_copy(update=hidden)


def doors_of(plan: Plan, config: Config) -> dict[str, str]:
    """Return each service's first door: here over loopback where it is bound to all addresses, else on its node.

    What no listener serves is where the plan says.
    """
    doors: dict[str, str] = {}
    for listener in plan.listeners:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(listener.bind, listener.bind)
        scheme = "http" if listener.settings.tls is None else "https"
        doors.setdefault(listener.service or listener.name, f"{scheme}://{host}:{listener.port}")
    for name, elsewhere in config.listeners.items():
        if not elsewhere.planned and elsewhere.node is not None:
            scheme = "http" if elsewhere.tls is None else "https"
            doors.setdefault(elsewhere.service or name, f"{scheme}://{config.nodes[elsewhere.node]}:{elsewhere.port}")
    return {**plan.services, **doors}
