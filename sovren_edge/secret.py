"""Owns what a secret is in a configuration: a reference to it, never its value.

Must not know which settings are secret: they say so by their type.
"""

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, SecretStr, ValidationInfo


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Reads secrets from an environment and from files; `made_in` is where missing ones are made, if anywhere.

    `names` are the variables that were read so far.
    """

    environ: Mapping[str, str]
    made_in: Path | None = None
    names: set[str] = field(default_factory=set)

    def read(self, reference: str, make: Callable[[], str]) -> str:
        """Return the secret that `env:NAME` or `file:PATH` names; ValueError says what is missing, not its value."""
        kind, _, name = reference.partition(":")
        if kind == "env" and name:
            self.names.add(name)
            return self.environ.get(name) or self._made(name, make)
        if kind == "file" and name:
            try:
                return Path(name).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"cannot read the secret's file {name} ({type(error).__name__})") from None
        raise ValueError("a secret is never written here: name it as env:NAME or file:PATH")

    def _made(self, name: str, make: Callable[[], str]) -> str:
        if self.made_in is None:
            raise ValueError(f"the environment variable {name} is not set")
        path = self.made_in / name
        if not path.exists():
            self.made_in.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(make())
        return path.read_text(encoding="utf-8")


def made_by(make: Callable[[], str]) -> BeforeValidator:
    """Return what reads a secret that `make` makes where missing ones are made."""

    def resolve(value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str):
            return value
        source = (info.context or {}).get("secrets")
        if not isinstance(source, SecretSource):
            raise ValueError("secrets cannot be read here")  # noqa: TRY004 - pydantic turns ValueErrors into faults
        return source.read(value, make)

    return BeforeValidator(resolve)


def make_text() -> str:
    """Return a text that nobody can guess."""
    return secrets.token_urlsafe(48)


Secret = Annotated[SecretStr, made_by(make_text)]
"""A setting's type: written as `env:NAME` or `file:PATH`, read as a `SecretStr`, printed as stars."""
