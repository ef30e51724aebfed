"""The rows of one request, from its grant to its end."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sovren_edge.gateway.egress.dial import Attempt
from sovren_edge.gateway.ledger.rows import RequestRow
from sovren_edge.gateway.proxy.record import Record
from sovren_edge.gateway.proxy.request_ids import make_request_id

NOON = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
ID = UUID("01900000-0000-7000-8000-000000000000")


def make_record() -> Record:
    """Return the record of a request that has just come."""
    return Record(
        RequestRow(
            request_id=ID, created_at=NOON, owner="g367-1", subscriber_id="ann", service="slack", method="GET",
            host="slack.com", path="/", decision="reserved", clock="boot:1",
        )
    )  # fmt: skip


def test_each_attempt_has_a_grant_of_its_own() -> None:
    """Its id says which attempt it is; a refunded one leaves its place empty, so that the next is not taken for it."""
    record = make_record()
    assert record.next_grant() == f"{ID}.0"
    record.granted(record.next_grant(), 5)
    assert (record.open_grant, record.row.granted_us, record.row.grant_charged) == (f"{ID}.0", (5,), True)
    record.refunded()
    assert (record.row.granted_us, record.row.grant_charged, record.row.attempts) == ((None,), False, 1)
    assert record.next_grant() == f"{ID}.1"
    record.granted(record.next_grant(), 7)
    assert (record.row.granted_us, record.row.grant_charged) == ((None, 7), True)


def test_the_last_row_says_how_it_ended() -> None:
    """With what is known of the last attempt, and the time that all of it took."""
    record = make_record()
    record.tried(Attempt(sent=True, address="93.184.216.34", dns_ms=1, connect_ms=2, ttfb_ms=3), 200)
    row = record.ended("settled", 200, "", bytes_out=9, now=NOON + timedelta(milliseconds=40))
    assert row is record.row
    assert (row.resolved_ip, row.upstream_status, row.dns_ms, row.connect_ms, row.ttfb_ms) == (
        "93.184.216.34",
        200,
        1,
        2,
        3,
    )
    assert (row.decision, row.status, row.reason, row.total_ms, row.bytes_out) == ("settled", 200, "", 40, 9)
    assert row.settled_at == NOON + timedelta(milliseconds=40)
    # A clock that was set back in between makes no negative durations.
    assert record.ended("settled", 200, "", bytes_out=0, now=NOON - timedelta(seconds=1)).total_ms == 0
    assert record.request_id == str(ID)


def test_ids_are_uuids_that_begin_with_the_time() -> None:
    """Version 7, as RFC 9562 has it; its example is made again from its parts."""
    example = UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")
    chance = (0xCC3 << 68 | 0x18C4DC0C0C07398F).to_bytes(10)
    assert make_request_id(0x017F22E279B0, chance) == example
    one, other = make_request_id(1_000, bytes(10)), make_request_id(1_001, b"\xff" * 10)
    assert one < other
    assert (one.version, other.version, other.variant) == (7, 7, example.variant)
