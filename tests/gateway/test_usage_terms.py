"""What a question about usage means: its period, its hours and days, and its pages."""

import base64
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovren_edge.gateway.usage.buckets import Granularity, buckets, day_of
from sovren_edge.gateway.usage.terms import Group, Key, Terms, read_terms, read_zone
from tests.gateway.books import NOON

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = st.sampled_from(sorted(available_timezones())).map(ZoneInfo)
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone is beside them
HOUR, DAY, TICK = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)


def terms(now: datetime = NOON, zone: ZoneInfo = BERLIN, **asked: Any) -> Terms:  # noqa: ANN401 - what a caller asks for
    """Return what a question means."""
    given_: dict[str, Any] = {
        "since": None,
        "until": None,
        "granularity": "hour",
        "groups": frozenset(),
        "cursor": None,
    }
    return read_terms(now=now, zone=zone, **(given_ | asked))


@given(MOMENTS, st.timedeltas(TICK, timedelta(days=40)), ZONES, st.sampled_from(["hour", "day"]))
def test_buckets_cover_a_period_and_no_more(
    since: datetime, length: timedelta, zone: ZoneInfo, granularity: Granularity
) -> None:
    """Without a gap, in any zone; each begins where the wall clock shows a full hour, or with a new date."""
    found = buckets(since, since + length, granularity, zone)
    assert found[0] <= since < (found[1] if found[1:] else since + length + TICK)
    assert found[-1] < since + length
    assert all(before < after for before, after in pairwise(found))
    longest = HOUR if granularity == "hour" else timedelta(hours=49)
    assert all(after - before <= longest for before, after in pairwise(found))
    for start in found:
        local = start.astimezone(zone)
        if granularity == "hour":
            assert (local.minute, local.second, local.microsecond) == (0, 0, 0)
        else:
            assert (start - TICK).astimezone(zone).date() < local.date()


@pytest.mark.parametrize(
    ("name", "day", "hours"),
    [
        ("UTC", (2026, 3, 29), 24),
        ("Europe/Berlin", (2026, 3, 29), 23),
        ("Europe/Berlin", (2026, 10, 25), 25),
        ("America/Santiago", (2026, 9, 6), 23),  # midnight is skipped
        ("Atlantic/Azores", (2026, 10, 25), 25),  # midnight is there twice
        ("Asia/Kolkata", (2026, 3, 29), 24),
        ("Australia/Lord_Howe", (2026, 10, 4), 24),  # half an hour is skipped
    ],
)
def test_a_day_is_as_long_as_its_date(name: str, day: tuple[int, int, int], hours: int) -> None:
    """And has so many hours that have begun."""
    zone = ZoneInfo(name)
    start, after = (day_of(datetime(*day, 12, tzinfo=zone) + timedelta(days=n), zone) for n in (0, 1))
    assert buckets(start, after, "day", zone) == [start]
    assert len(buckets(start, after, "hour", zone)) == hours


def test_a_day_that_did_not_happen_has_no_bucket() -> None:
    """Samoa went from the 29th to the 31st of December."""
    zone = ZoneInfo("Pacific/Apia")
    found = buckets(datetime(2011, 12, 29, 12, tzinfo=zone), datetime(2012, 1, 1, tzinfo=zone), "day", zone)
    assert [start.astimezone(zone).day for start in found] == [29, 31]


def test_too_many_buckets_are_refused() -> None:
    """Before they are made."""
    since = datetime(1970, 1, 1, tzinfo=UTC)
    assert len(buckets(since, since + 9998 * HOUR, "hour", BERLIN)) == 9998
    with pytest.raises(ValueError, match="no more than 10000 hours before to"):
        buckets(since, datetime(2999, 1, 1, tzinfo=UTC), "hour", BERLIN)
    with pytest.raises(ValueError, match="no more than 10000 days before to"):
        terms(since=since, granularity="day").buckets()


def test_the_present_day_is_meant_if_nothing_else_is_said() -> None:
    """The zone's, until now; and the day that `to` ends, if only that is given."""
    now = datetime(2026, 11, 24, 23, 30, tzinfo=UTC)
    assert (terms(now).since, terms(now).until) == (datetime(2026, 11, 24, 23, tzinfo=UTC), now)
    assert terms(now, ZoneInfo("UTC")).since == datetime(2026, 11, 24, tzinfo=UTC)
    midnight = datetime(2026, 11, 24, tzinfo=BERLIN)
    assert terms(until=midnight).since == midnight - DAY


def test_times_without_an_offset_are_the_zones() -> None:
    """Others say themselves what they are."""
    asked = terms(since=datetime(2026, 11, 24, 12), until=datetime(2026, 11, 24, 12, tzinfo=UTC))  # noqa: DTZ001 - that is the point
    assert (asked.since, asked.until) == (NOON - HOUR, NOON)


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({"since": NOON, "until": NOON}, "from: a time before to"),
        ({"since": NOON + HOUR}, "from: a time before to"),
        ({"since": datetime(1, 1, 1)}, "from: a year from 1970 to 2999"),  # noqa: DTZ001 - it has none
        ({"until": datetime(9999, 12, 31, 23, 59, tzinfo=UTC)}, "to: a year from 1970 to 2999"),
        ({"cursor": "W10", "since": NOON}, "cursor: given without from and to"),
        ({"cursor": "W10", "until": NOON}, "cursor: given without from and to"),
    ],
)
def test_what_is_no_period_is_refused(asked: dict[str, Any], fault: str) -> None:
    """In words for its caller."""
    with pytest.raises(ValueError, match=fault):
        terms(**asked)


def test_a_zone_has_a_name_that_is_known() -> None:
    """And no other is looked for anywhere."""
    assert read_zone("Europe/Berlin", {"Europe/Berlin"}) == BERLIN
    for name in ("Europe", "../../etc/passwd", "europe/berlin", "", "\0"):
        with pytest.raises(ValueError, match="tz: the name of a time zone"):
            read_zone(name, available_timezones())


@given(
    MOMENTS,
    st.timedeltas(TICK, timedelta(days=9)),
    ZONES,
    st.sampled_from(["hour", "day"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    st.integers(0, 999),
    st.data(),
)
def test_a_cursor_brings_its_page_back(  # noqa: PLR0917 - drawn
    since: datetime,
    length: timedelta,
    zone: ZoneInfo,
    granularity: Granularity,
    service: str,
    status: int,
    data: st.DataObject,
) -> None:
    """The same period, at whatever time it is asked for, and the row after which it goes on."""
    groups: frozenset[Group] = frozenset({"service", "status"})
    first = Terms(since, since + length, zone, granularity, groups)
    last = Key(data.draw(st.sampled_from(first.buckets())), service, status)
    cursor = first.cursor(last)
    assert cursor.replace("-", "").replace("_", "").isalnum()
    again = read_terms(
        now=NOON, since=None, until=None, zone=zone, granularity=granularity, groups=groups, cursor=cursor
    )
    assert again == Terms(since, since + length, zone, granularity, groups, last)
    assert again.buckets() == first.buckets()


def encoded(value: object) -> str:
    """Return what a cursor is made of."""
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "", "a", "!", "ä", "W10", "W10=", encoded({}), encoded([0, 1]), encoded([0, 1, 0, "a\0", 0]),
        encoded([0, 1, 0, "", 1000]), encoded([0, 1, 0, "", "0"]), encoded([0, 1, 0, 5, 0]),
        encoded([0, 10**18, 0, "", 0]), encoded([0, 1e300, 0, "", 0]), encoded([0, 10**16, -(10**15), "", 0]),
        encoded([None, 1, 0, "", 0]),
    ],
)  # fmt: skip
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    """Whatever stands in it."""
    with pytest.raises(ValueError, match="cursor: the next_cursor of a page"):
        terms(cursor=cursor)


@given(st.binary(max_size=40))
def test_no_cursor_does_harm(sent: bytes) -> None:
    """It is read, or it is refused."""
    try:
        terms(cursor=sent.decode("latin-1")).buckets()
    except ValueError as error:
        assert str(error).startswith(("cursor: ", "from: "))  # noqa: PT017 - it may also be a cursor


def test_a_cursor_of_other_steps_is_refused() -> None:
    """Its page would not go on where the last one ended."""
    cursor = terms(zone=ZoneInfo("UTC")).cursor(Key(NOON - HOUR))
    with pytest.raises(ValueError, match="with all else as it was"):
        terms(cursor=cursor, granularity="day").buckets()
