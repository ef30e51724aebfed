"""What a pool's table may say."""

import pytest
from pydantic import ValidationError

from pools.settings import PoolSettings, ProbeSettings


@pytest.mark.parametrize(
    "table", [{}, {"endpoints": ("a:1",), "tiers": ("b",)}, {"dns": {"name": "a.b"}, "tiers": ("b",)}]
)
def test_a_pool_has_endpoints_or_dns_or_tiers(table: dict[str, object]) -> None:
    """Never both, never neither."""
    with pytest.raises(ValidationError, match="only one of them"):
        PoolSettings.model_validate(table)


def test_only_speech_is_spoken_in_parts() -> None:
    """Nothing else can be divided."""
    with pytest.raises(ValidationError, match="only speech"):
        PoolSettings(endpoints=("a:1",), interchangeable=True)


@pytest.mark.parametrize("table", [{"endpoints": ("a:1",)}, {"tiers": ("b",)}])
def test_one_of_the_two_is_enough(table: dict[str, tuple[str, ...]]) -> None:
    """Everything else has a default."""
    assert PoolSettings.model_validate(table).slots == 64


@pytest.mark.parametrize("path", ["health", "/a b", "/a\r\nX: y", ""])
def test_a_probe_path_is_a_path(path: str) -> None:
    """It starts with a slash and holds nothing that could end a request line."""
    with pytest.raises(ValidationError, match="path"):
        ProbeSettings(path=path)
