"""Owns the way from a file to a sound configuration, or to every fault in it at once.

Must not know what a node makes of a configuration.
"""

import json
import math
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from sovren_edge.auth.tokens import AuthSettings
from sovren_edge.config.address import LOOPBACK
from sovren_edge.config.fault import ConfigurationError, Fault
from sovren_edge.config.listeners import (
    REFERENCE,
    authless_faults,
    gateway_faults,
    key_fault,
    listener_faults,
    openness_faults,
)
from sovren_edge.config.model import Config, ConfigFile
from sovren_edge.config.paths import with_absolute_paths
from sovren_edge.config.pools import pool_faults
from sovren_edge.config.sketch import ListenerSketch, Sketch, Table, draw
from sovren_edge.config.violations import faults_of
from sovren_edge.gateway.settings import GatewaySettings
from sovren_edge.handler import Handler
from sovren_edge.handler.discovery import find_handlers
from sovren_edge.observe.tracing import exporter_installed
from sovren_edge.secret import SecretSource

# The key of tokens and those of credentials that --local makes, and takes.
LOCAL_KEY = "env:SOVREN_EDGE_TOKEN_KEY"
LOCAL_CREDENTIAL_KEYS = "env:SOVREN_EDGE_CREDENTIAL_KEYS"

_ON_LOOPBACK = re.compile(r"https?://(127\.[0-9.]+|localhost|\[::1\])[:/]")

Model = TypeVar("Model", bound=BaseModel)


def load_config(path: Path, *, secrets: SecretSource | None, local: bool = False, node: str | None = None) -> Config:
    """Read and judge a file; ConfigurationError carries every fault.

    Without `secrets` the file is read for its map alone: neither secrets nor handlers are looked up. With `local`
    the database and all keys are ours, and every listener is bound to loopback. A `node` that only balances needs
    neither, and they are passed over.
    """
    raw = with_absolute_paths(_parse(path), path.parent)
    if local:
        raw = _without_far_collector(raw)
    lean = local or secrets is None or _only_balances(draw(raw), node)
    if lean:
        raw = _with_ours(raw, keys=local and secrets is not None)
    sketch = draw(raw)
    bind = LOOPBACK if local else sketch.bind
    given = _Given(
        bind, database=lean or sketch.database, tokens=lean or sketch.tokens, services=frozenset(sketch.known_services)
    )
    doors = [door for door in sketch.opened if node in {None, door.node}]
    handlers, handler_faults = _judge_handlers(doors, secrets, given) if secrets else ({}, [])
    file, model_faults = _validate(ConfigFile, raw, secrets or SecretSource({}))
    faults = _merge(
        [
            *model_faults,
            *_infinite(raw),
            *_rehearsal_faults(raw.get("gateway"), local=local or secrets is None),
            *(_tracing_faults(file) if secrets and file else ()),
        ],
        [
            *listener_faults(sketch, bind),
            *pool_faults(sketch),
            *handler_faults,
            *(() if lean else gateway_faults(sketch)),
        ],
    )
    if faults or file is None:
        raise ConfigurationError(str(path), faults)
    return Config.model_validate({**dict(file), "handlers": handlers})


def _only_balances(sketch: Sketch, node: str | None) -> bool:
    """Whether none of a node's listeners keeps tables or knows its callers."""
    return node is not None and all(one.kind in {"balance", "status"} for one in sketch.opened if one.node == node)


def load_auth(path: Path, secrets: SecretSource, *, local: bool) -> AuthSettings:
    """Read what a file says of tokens, whatever else it says; with `local`, the key that --local makes."""
    raw = {"key": LOCAL_KEY} if local else _table(path, "auth")
    settings, faults = _validate(AuthSettings, raw, secrets, "auth")
    if settings is None:
        raise ConfigurationError(str(path), faults)
    return settings


def load_gateway(path: Path, *, local: bool) -> GatewaySettings:
    """Read what a file says of the gateway, but for its secrets, whatever else it says."""
    raw = {key: value for key, value in _table(path, "gateway").items() if key not in {"credential_keys", "redis"}}
    settings, faults = _validate(GatewaySettings, raw, SecretSource({}), "gateway")
    faults += _rehearsal_faults(raw, local=local)
    if settings is None or faults:
        raise ConfigurationError(str(path), faults)
    return settings


def _table(path: Path, name: str) -> dict[str, object]:
    """Return one table of a file; what is none is made one that no model knows."""
    raw = _parse(path).get(name, {})
    return raw if isinstance(raw, dict) else {"": raw}


def _rehearsal_faults(gateway: object, *, local: bool) -> list[Fault]:
    """Refuse what a test needs where a production could hold it: it leads into private networks."""
    if local or not isinstance(gateway, dict) or "rehearsal" not in gateway:
        return []
    return [Fault("gateway.rehearsal", "a table", "nothing", "it is for tests: only --local takes it")]


def _tracing_faults(file: ConfigFile) -> Iterator[Fault]:
    if file.tracing.endpoint is not None and not exporter_installed():
        hint = "pip install 'sovren-edge[tracing]', or leave it out"
        yield Fault(
            "tracing.endpoint", f'"{file.tracing.endpoint}"', "the extra `tracing`, which is not installed", hint
        )


def _without_far_collector(raw: dict[str, object]) -> dict[str, object]:
    """Return a file without a collector of spans that is not on loopback: with --local nobody else is contacted."""
    tracing = raw.get("tracing")
    endpoint = tracing.get("endpoint") if isinstance(tracing, dict) else None
    near = not isinstance(endpoint, str) or _ON_LOOPBACK.match(endpoint) is not None
    return raw if near else _with(raw, "tracing", "endpoint", None)


@dataclass(frozen=True, slots=True)
class _Given:
    """What the configuration gives to handlers."""

    bind: str
    database: bool
    tokens: bool
    services: Collection[str]


def _judge_handlers(
    opened: Iterable[ListenerSketch], secrets: SecretSource, given: _Given
) -> tuple[dict[str, Handler], list[Fault]]:
    """Make the handlers of these listeners, by the listener's name, and the faults of those that cannot be."""
    doors = [door for door in opened if door.kind == "handler" and door.handler is not None]
    classes = find_handlers({door.handler for door in doors if door.handler is not None})
    handlers: dict[str, Handler] = {}
    faults: list[Fault] = []
    for door in doors:
        match classes[door.handler or ""]:
            case str() as reason:
                faults.append(Fault(f"{door.path}.handler", f'"{door.handler}"', "an installed handler", reason))
            case found:
                handler, own_faults = _validate(
                    found, door.settings, secrets, f"{door.path}.settings", services=given.services
                )
                faults += [*own_faults, *_lacks(door, found, given)]
                handlers |= {door.name: handler} if handler is not None else {}
    return handlers, faults


def _lacks(door: ListenerSketch, handler: type[Handler], given: _Given) -> Iterator[Fault]:
    if handler.migrations is not None and not given.database:
        yield Fault("database.url", "nothing", REFERENCE, f"{door.path} keeps tables")
    if not handler.authenticates:
        yield from openness_faults(door, given.bind)
        return
    yield from authless_faults(door)
    if not given.tokens:
        yield key_fault(door)


def _parse(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(str(path), [Fault(str(path), "a mistake in the syntax", "TOML", str(error))]) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(str(path), [Fault(str(path), "bytes that are no text", "UTF-8", str(error))]) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(str(path), [Fault(str(path), "no readable file", "a configuration", reason)]) from None


def _with_ours(raw: Mapping[str, object], *, keys: bool) -> dict[str, object]:
    """Return a file without the servers that it names, and with our own keys in the place of its own, or none."""
    raw = _with(_with(raw, "database", "url", None), "gateway", "redis", None)
    # More than one shares its limit in Redis.
    raw = _with(raw, "gateway", "processes", None)
    raw = _with(raw, "gateway", "credential_keys", LOCAL_CREDENTIAL_KEYS if keys else None)
    return {**raw, "auth": {"key": LOCAL_KEY} if keys else {}}


def _with(raw: Mapping[str, object], table: str, key: str, value: str | None) -> dict[str, object]:
    """Return a file with another value in a table, or without it; what is no table stays as it is."""
    found = raw.get(table, {})
    if not isinstance(found, dict):
        return dict(raw)
    others = {name: other for name, other in found.items() if name != key}
    return {**raw, table: others if value is None else {**others, key: value}}


def _validate(
    model: type[Model],
    raw: Table,
    secrets: SecretSource,
    prefix: str = "",
    services: Collection[str] | None = None,
) -> tuple[Model | None, list[Fault]]:
    """Judge a table as JSON, whose arrays and texts pydantic reads strictly as tuples, networks and URLs."""
    context = {"secrets": secrets, "services": services}
    try:
        return model.model_validate_json(json.dumps(raw, default=str), context=context), []
    except ValidationError as error:
        return None, list(faults_of(error, model, raw, prefix))


def _infinite(value: object, path: str = "") -> Iterator[Fault]:
    """TOML knows `inf` and `nan`; no setting does."""
    match value:
        case float() if not math.isfinite(value):
            yield Fault(path, str(value), "a finite number")
        case dict():
            for key, inner in value.items():
                yield from _infinite(inner, f"{path}.{key}" if path else str(key))
        case list():
            for place, inner in enumerate(value):
                yield from _infinite(inner, f"{path}.{place}")


def _merge(first: Iterable[Fault], second: Iterable[Fault]) -> list[Fault]:
    """Keep one fault a path; the model's own judgement comes first."""
    merged: dict[str, Fault] = {}
    for fault in (*first, *second):
        merged.setdefault(fault.path, fault)
    return list(merged.values())
