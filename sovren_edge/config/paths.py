"""Owns where files are that a configuration names: a relative path begins at the configuration's own folder.

Must not know what the files hold.
"""

from collections.abc import Mapping
from pathlib import Path

_KEYS = {"listeners": ("certificate", "key"), "pools": ("ca",)}


def with_absolute_paths(raw: Mapping[str, object], folder: Path) -> dict[str, object]:
    """Return the file with the paths in its `tls` tables made absolute; what is malformed stays as it is."""
    return {**raw, **{group: _group(raw[group], keys, folder) for group, keys in _KEYS.items() if group in raw}}


def _group(tables: object, keys: tuple[str, ...], folder: Path) -> object:
    if not isinstance(tables, dict):
        return tables
    return {name: _table(table, keys, folder) for name, table in tables.items()}


def _table(table: object, keys: tuple[str, ...], folder: Path) -> object:
    if not isinstance(table, dict) or not isinstance(tls := table.get("tls"), dict):
        return table
    found = {key: str(folder.resolve() / tls[key]) for key in keys if isinstance(tls.get(key), str)}
    return {**table, "tls": {**tls, **found}}
