"""Settings that change while the gateway runs: in force for what begins afterwards, and for nothing that has begun."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import trustme
from harness import eventually
from pydantic import SecretStr

from sovren_edge.gateway.settings import GatewaySettings, replaces
from tests.gateway.gateway_stage import KEYS, SERVICES, Front, Told, open_front, settings_from
from tests.gateway.reserving import until
from tests.gateway.tls_upstream import OTHER, Call, answer_ok

TWO = "two:" + "B" * 43 + "="


@pytest.fixture
async def front(authority: trustme.CA, gateway_url: str, tmp_path: Path) -> AsyncIterator[Front]:
    """Run a gateway."""
    async with open_front(authority, gateway_url, tmp_path, hourly_limit=5) as front:
        yield front


async def reload(front: Front, **changes: object) -> None:
    """Change some of its settings, as a configuration's file has them."""
    read = settings_from(orjson.dumps(changes))
    front.settings = front.settings.model_copy(update={name: getattr(read, name) for name in changes})
    await front.gateway.reload(front.settings)


async def granted(front: Front) -> Told:
    """Call until a refusal is no longer repeated from memory."""
    told = await front.call()
    while told.status == 429:
        told = await front.call()
    return told


async def test_services_come_go_and_are_on_trial(front: Front) -> None:
    """From one request to the next."""
    assert (await front.call()).status == 200
    await reload(front, services=SERVICES | {"example": {"hosts": ["example.org"]}})
    assert (await front.call()).reason == "host_not_allowed"
    await reload(front, services={"example": {"hosts": ["example.org"], "mode": "report"}})
    assert (await front.call()).status == 200
    assert (await front.call(f"https://{OTHER}/", service="closed")).reason == "unknown_service"
    await reload(front, services={"example": {"hosts": ["example.com"], "credential": "required"}})
    assert (await front.call()).reason == "credential_missing"
    told = [(row["service"], row["status"], row["would_deny"]) for row in await front.rows()]
    assert told == [
        ("example", 200, ""),
        ("example", 403, ""),
        ("example", 200, "host_not_allowed"),
        ("", 404, ""),
        ("example", 424, ""),
    ]


async def test_limits_change_and_counters_stay(front: Front) -> None:
    """What was granted counts against the new limit; the founder's own goes before everybody's."""
    for _ in range(3):
        assert (await front.call()).status == 200
    await reload(front, hourly_limit=3)
    assert (await front.call()).reason == "hourly_limit"
    await reload(front, founder_hourly_limit=6)
    async with asyncio.timeout(30):
        told = await granted(front)
    assert (told.headers["X-Gateway-RateLimit-Limit"], told.headers["X-Gateway-RateLimit-Remaining"]) == ("6", "2")
    await until(lambda: limited(front, 6))
    await reload(front, founder_hourly_limit=None, hourly_limit=50)
    await until(lambda: limited(front, None))
    assert (await front.call()).headers["X-Gateway-RateLimit-Remaining"] == "45"


async def limited(front: Front, limit: int | None) -> bool:
    """Whether PostgreSQL has this limit of the founder's."""
    found: int | None = await front.database.fetchval("SELECT hourly_limit FROM subscribers")
    return found == limit


async def test_a_request_goes_by_the_rules_of_its_beginning(front: Front) -> None:
    """At its prices, and by its way out, whatever holds when it ends."""
    gate = asyncio.Event()

    async def script(call: Call) -> None:
        await gate.wait()
        await answer_ok(call)

    await reload(front, price_version="old", prices=[{"amount_microusd": 1}])
    front.upstream.script = script
    calling = asyncio.ensure_future(front.call())
    await eventually(lambda: front.upstream.calls)
    stage = front.settings.rehearsal
    assert stage is not None
    nowhere = stage.model_copy(update={"port": 1})
    await front.gateway.reload(front.settings.model_copy(update={"rehearsal": nowhere}))
    assert (await front.call()).status == 502
    await reload(front, price_version="new", prices=[{"amount_microusd": 2}])
    gate.set()
    assert (await calling).status == 200
    assert (await front.call()).status == 200
    await front.rows()
    costs = await front.database.fetch("SELECT price_version, amount_microusd FROM api_costs ORDER BY created_at")
    assert [(cost["price_version"], cost["amount_microusd"]) for cost in costs] == [("old", 1), ("new", 2)]


async def test_budgets_come_change_and_go(front: Front) -> None:
    """What was spent before counts, also in a period of another length."""
    await reload(front, price_version="1", prices=[{"amount_microusd": 10}], hourly_limit=50)
    assert (await front.call()).status == 200
    await front.rows()
    await reload(front, budgets={"default": {"period": "day", "hard_microusd": 15}})
    assert (await front.call()).reason == "budget_exhausted"
    await reload(front, budgets={"founder": {"period": "month", "hard_microusd": 25}})
    assert (await front.call()).status == 200
    assert (await front.call()).reason == "budget_exhausted"
    await reload(front, budgets={"default": {"period": "month", "hard_microusd": 35}})
    assert (await front.call()).status == 200
    await reload(front, budgets={})
    assert (await front.call()).status == 200


async def test_keys_are_added_and_taken_away(front: Front) -> None:
    """What was sealed under one that is still there opens; under one that is gone, it does not."""
    assert (await front.call(Idempotency_Key="k")).status == 200
    for keys, status in ((f"{TWO},{KEYS}", 200), (TWO, 409), (None, 409), (KEYS, 200)):
        changed = front.settings.model_copy(update={"credential_keys": None if keys is None else SecretStr(keys)})
        await front.gateway.reload(changed)
        assert (await front.call(Idempotency_Key="k")).status == status
    assert len(front.upstream.calls) == 1


@pytest.mark.parametrize(
    ("changes", "replaced"),
    [
        ({}, False),
        ({"hourly_limit": 3, "retention_days": 3, "price_version": "1"}, False),
        ({"journal_bytes": 1 << 21}, True),
        ({"redis": SecretStr("redis://a")}, True),
    ],
)
def test_what_only_a_new_process_can_change(changes: dict[str, Any], replaced: bool) -> None:  # noqa: FBT001 - a case
    """Where and how much it keeps."""
    old = GatewaySettings()
    assert replaces(old, old.model_copy(update=changes)) is replaced


async def test_it_tells_how_it_is_doing(front: Front) -> None:
    """As `sovren-edge top` shows it."""
    for status in (200, 200, 200, 200, 200, 429, 429):
        assert (await front.call()).status == status
    assert (await front.call("https://evil.example/")).status == 429
    await front.rows()
    assert front.gateway.look() == {
        "limiter": {"seeded": True, "subscribers": 1, "entries": 5, "inflight": 0, "refused": 3},
        "ledger": {"journaling": False, "journal_bytes": 0},
        "requests": {"allowed": 5, "refused": 3},
    }
