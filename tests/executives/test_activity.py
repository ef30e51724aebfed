"""What executives have done, noted in a real PostgreSQL and read in parts."""

from datetime import timedelta
from typing import Any

import pytest

from handlers.executives.activity import Activities, Activity, note
from sovren_edge.handler import Database
from tests.executives.board import FOUNDER, NOON, hire

MINUTE = timedelta(minutes=1)


@pytest.fixture
def activities(database: Database) -> Activities:
    """Return the activities."""
    return Activities(database)


async def note_each_minute(database: Database, *actions: str, executive_id: str = "ceo") -> None:
    """Note actions, the first at noon and each a minute later."""
    for number, action in enumerate(actions):
        metadata = {"number": number}
        await note(database, FOUNDER, executive_id, action, at=NOON + number * MINUTE, metadata=metadata)


async def read(activities: Activities, subscriber: str = FOUNDER, **asked: Any) -> list[Activity]:  # noqa: ANN401 - handed on
    """Return what is on one page that has room for all."""
    found, total = await activities.page(subscriber, **asked, limit=100, offset=0)
    assert len(found) == total
    return [*found]


async def test_what_was_noted_is_told(activities: Activities, database: Database) -> None:
    """With the executive's name and whatever belongs to it; one who has gone is known by the id."""
    metadata = {"sessionId": "a", "words": 12, "of": ["x", None], "who": 'Zoë "Z"'}
    await note(database, FOUNDER, "ceo", "answered", at=NOON, metadata=metadata)
    await note(database, FOUNDER, "gone", "answered", at=NOON - MINUTE, metadata={})
    first, second = await read(activities)
    assert (first.executive_id, first.executive_name) == ("ceo", "Evelyn Marchetti")
    assert (first.action, first.happened_at, first.metadata) == ("answered", NOON, metadata)
    assert (second.executive_name, second.metadata) == ("gone", {})


async def test_the_newest_come_first(activities: Activities, database: Database) -> None:
    """Of those of one moment, what was noted last; pages together are the whole."""
    await note_each_minute(database, *"abc")
    await note_each_minute(database, *"de")
    whole = await read(activities)
    assert [one.action for one in whole] == ["c", "e", "b", "d", "a"]
    pages = [await activities.page(FOUNDER, limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert [one for page, _ in pages for one in page] == whole
    assert {total for _, total in pages} == {5}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"executive_id": "cfo"}, "zy"),
        ({"executive_id": "nobody"}, ""),
        ({"action": "b"}, "b"),
        ({"since": NOON + MINUTE}, "czb"),
        ({"until": NOON + MINUTE}, "ya"),
        ({"since": NOON + MINUTE, "until": NOON + 2 * MINUTE, "executive_id": "ceo"}, "b"),
        ({"since": NOON + MINUTE, "until": NOON + MINUTE}, ""),
    ],
)
async def test_filters_hold_together(
    activities: Activities, database: Database, asked: dict[str, Any], told: str
) -> None:
    """A period has its first moment and not its last; the total is of what was asked for."""
    await note_each_minute(database, *"abc")
    await note_each_minute(database, *"yz", executive_id="cfo")
    assert "".join(one.action for one in await read(activities, **asked)) == told


async def test_nobody_sees_anothers(activities: Activities, database: Database) -> None:
    """Though executives have the same id."""
    await hire(database, "ann", "ceo", name="Her Own")
    await note_each_minute(database, "secret")
    await note(database, "ann", "ceo", "open", at=NOON, metadata={})
    assert [(one.action, one.executive_name) for one in await read(activities, "ann")] == [("open", "Her Own")]
    assert [one.action for one in await read(activities)] == ["secret"]
    assert await read(activities, "bob") == []
