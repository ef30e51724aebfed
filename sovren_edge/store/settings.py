"""Owns what the configuration may say about PostgreSQL."""

from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from sovren_edge.secret import Secret


class DatabaseSettings(BaseModel):
    """`url` is a secret (it holds a password); `schema_name` (written `schema`) is the only schema we ever touch."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", populate_by_name=True)

    url: Secret | None = None
    schema_name: str = Field(default="sovren_edge", alias="schema", pattern="^[a-z_][a-z0-9_]{0,62}$")
    connections: int = Field(default=10, ge=1)
    timeout_s: float = Field(default=5.0, gt=0)

    @field_validator("url")
    @classmethod
    def _is_a_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and urlsplit(url.get_secret_value()).scheme not in {"postgresql", "postgres"}:
            raise ValueError("the secret is not of the form postgresql://user:password@host:5432/database")
        return url
