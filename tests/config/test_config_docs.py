"""docs/configuration.md leaves no setting out, and its defaults and examples are true."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from pools.settings import DnsSettings, PoolSettings, ProbeSettings, QueueSettings
from sovren_edge.auth.tokens import AuthSettings
from sovren_edge.config.model import (
    BalanceListener,
    ConfigFile,
    EdgeSettings,
    GatewayListener,
    HandlerListener,
    StatusListener,
)
from sovren_edge.config.scope import State
from sovren_edge.gateway.settings import (
    BudgetSettings,
    GatewaySettings,
    PriceSettings,
    RehearsalSettings,
    ServiceSettings,
)
from sovren_edge.observe.settings import LogSettings, TracingSettings
from sovren_edge.relay.settings import RelaySettings
from sovren_edge.store.settings import DatabaseSettings

TEXT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
SECTIONS: list[tuple[str, type[BaseModel]]] = [
    ("[edge]", EdgeSettings),
    ("[log]", LogSettings),
    ("[tracing]", TracingSettings),
    ("[relay]", RelaySettings),
    ("[auth]", AuthSettings),
    ("[gateway]", GatewaySettings),
    ("[gateway.services.NAME]", ServiceSettings),
    ("[[gateway.prices]]", PriceSettings),
    ("[gateway.budgets.SUBSCRIBER]", BudgetSettings),
    ("[gateway.rehearsal]", RehearsalSettings),
    ("[database]", DatabaseSettings),
    ("[pools.NAME]", PoolSettings),
    ("[pools.NAME.dns]", DnsSettings),
    ("[pools.NAME.probe]", ProbeSettings),
    ("[pools.NAME.queue]", QueueSettings),
    ("[listeners.NAME]", BalanceListener),
    ("[listeners.NAME]", StatusListener),
    ("[listeners.NAME]", GatewayListener),
    ("[listeners.NAME]", HandlerListener),
]


def _section(title: str) -> str:
    _, found, rest = TEXT.partition(f"# `{title}`\n")
    assert found, title
    return re.split(r"\n##", rest)[0]


@pytest.mark.parametrize(("title", "model"), SECTIONS)
def test_every_setting_is_explained_with_its_default(title: str, model: type[BaseModel]) -> None:
    """In a row of its table's section."""
    section = _section(title)
    for name, field in model.model_fields.items():
        row = re.search(rf"^\|.*`{field.alias or name}` \|(.*)\|.*\|$", section, re.MULTILINE)
        assert row, f"{title}: {name}"
        if isinstance(field.default, str | int | float):
            written = tomllib.loads("x =" + row[1].strip(" `"))["x"]
            assert written == field.default, f"{title}: {name}"


def test_every_table_has_a_section() -> None:
    """Also that of the nodes."""
    for table in ConfigFile.model_fields:
        assert re.search(rf"^## `\[{table}(\.[a-z.]*NAME)?\]`$", TEXT, re.MULTILINE), table


def test_every_state_is_explained() -> None:
    """Of those that `ports` prints."""
    assert all(f"| `{state}` |" in TEXT for state in State)


def test_examples_are_toml() -> None:
    """They can be copied."""
    examples = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert len(examples) > 3
    assert all(tomllib.loads(example) for example in examples)
