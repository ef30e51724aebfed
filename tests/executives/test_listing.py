"""What a subscriber is shown: asked for with real tokens, on a real port, as the portal asks."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.executives.activity import note
from handlers.executives.proposal import Proposal
from tests.executives.board import FOUNDER, NOON, Board, bearer, hire
from tests.executives.board import propose as propose_to
from tests.executives.portal import ACTIVITY, DECIDED, EXECUTIVES, PENDING, check
from tests.handler.witness import Witness

HOUR = timedelta(hours=1)
PATHS = ["/executives/list", "/executives/activity", "/executives/pending-approvals"]
OFFER = Proposal.model_validate({"action": "Pay.", "type": "payment", "value": "12.50", "currency": "USD"})


async def propose(board: Board, *, subscriber: str = FOUNDER, hours: int = 24) -> str:
    """Have something wait, and return its id."""
    proposal = OFFER.model_copy(update={"expires_in_hours": hours})
    proposed = await propose_to(board.database, subscriber, "cfo", proposal, board.hands.at)
    return str(proposed.id)


def decision_of(approval_id: str) -> str:
    """Return where it is decided."""
    return f"/executives/pending-approvals/{approval_id}/decision"


async def test_executives_have_the_portals_shape(board: Board) -> None:
    """All of them, in the board's order."""
    told = await board.get("/executives/list")
    check(told, EXECUTIVES)
    assert (len(told["executives"]), told["total"]) == (20, 20)
    assert told["executives"][0] == {
        "id": "ceo", "name": "Evelyn Marchetti", "role": "CEO", "status": "active", "department": "Executive",
        "capabilities": ["strategy", "priorities", "decisions", "briefings"],
    }  # fmt: skip


async def test_executives_are_asked_for_in_parts(board: Board) -> None:
    """By role and status too; what is unknown is an empty list and no error."""
    part = await board.get("/executives/list", limit=3, offset=18)
    assert ([one["id"] for one in part["executives"]], part["total"]) == (["csco", "ccommo"], 20)
    found = await board.get("/executives/list", role="cfo", status="active")
    assert ([one["id"] for one in found["executives"]], found["total"]) == (["cfo"], 1)
    assert await board.get("/executives/list", role="janitor") == {"executives": [], "total": 0}
    assert await board.get("/executives/list", offset=1000) == {"executives": [], "total": 20}


async def test_activity_has_the_portals_shape(board: Board) -> None:
    """Times are in UTC, to the microsecond where they have it."""
    await note(board.database, FOUNDER, "ceo", "answered", at=NOON, metadata={"sessionId": "s"})
    await note(board.database, FOUNDER, "cfo", "answered", at=NOON + timedelta(microseconds=1), metadata={})
    told = await board.get("/executives/activity")
    check(told, ACTIVITY)
    assert (told["total"], told["hasMore"]) == (2, False)
    newest, oldest = told["activities"]
    assert newest.pop("timestamp") == "2026-11-25T12:00:00.000001Z"
    assert oldest.pop("id") < newest.pop("id")
    assert oldest == {
        "executiveId": "ceo", "executiveName": "Evelyn Marchetti", "action": "answered",
        "timestamp": "2026-11-25T12:00:00Z", "metadata": {"sessionId": "s"},
    }  # fmt: skip


async def test_activity_is_asked_for_in_parts(board: Board) -> None:
    """`hasMore` is true until the last page, also where that is full."""
    for number in range(5):
        await note(board.database, FOUNDER, "ceo", f"a{number}", at=NOON + number * HOUR, metadata={})

    async def ask(**query: str | int) -> tuple[list[str], int, bool]:
        told = await board.get("/executives/activity", FOUNDER, **query)
        return [one["action"] for one in told["activities"]], told["total"], told["hasMore"]

    assert await ask(limit=2) == (["a4", "a3"], 5, True)
    assert await ask(limit=2, offset=3) == (["a1", "a0"], 5, False)
    assert await ask(limit=2, offset=9) == ([], 5, False)
    assert await ask(executiveId="ceo", action="a2") == (["a2"], 1, False)
    assert await ask(executiveId="cfo") == ([], 0, False)
    period = {"from": "2026-11-25T13:00:00Z", "to": "2026-11-25T15:00:00Z"}
    assert await ask(**period) == (["a2", "a1"], 2, False)
    elsewhere = {"from": "2026-11-25T14:00:00+01:00", "to": "2026-11-25T15:00:00"}
    assert await ask(**elsewhere) == (["a2", "a1"], 2, False)
    assert await ask(**{"from": "2026-11-26"}) == ([], 0, False)


@pytest.mark.parametrize(
    ("moment", "status"),
    [
        ("0001-01-01", 200),
        ("9999-12-31T23:59:59.999999Z", 200),
        ("0001-01-01T00:00:00+14:00", 400),
        ("9999-12-31T23:59:59-14:00", 400),
        ("99999999999999999999", 400),
    ],
)
async def test_time_has_ends(board: Board, moment: str, status: int) -> None:
    """What is beyond them is the caller's fault."""
    await note(board.database, FOUNDER, "ceo", "answered", at=NOON, metadata={})
    for name in ("from", "to"):
        told = await board.get("/executives/activity", **{name: moment})
        assert told.get("statusCode", 200) == status


async def test_approvals_have_a_shape_of_their_own(board: Board) -> None:
    """The first to expire first, until it does."""
    late, soon = [await propose(board, hours=hours) for hours in (2, 1)]
    told = await board.get("/executives/pending-approvals")
    check(told, PENDING)
    assert ([one["id"] for one in told["approvals"]], told["total"], told["hasMore"]) == ([soon, late], 2, False)
    assert told["approvals"][0] == {
        "id": soon, "executiveId": "cfo", "executiveName": "Ingrid Solheim", "action": "Pay.", "type": "payment",
        "value": "12.50", "currency": "USD", "risk": "medium", "createdAt": "2026-11-25T12:00:00Z",
        "expiresAt": "2026-11-25T13:00:00Z",
    }  # fmt: skip
    part = await board.get("/executives/pending-approvals", limit=1)
    assert ([one["id"] for one in part["approvals"]], part["total"], part["hasMore"]) == ([soon], 2, True)
    board.hands.move(HOUR)
    told = await board.get("/executives/pending-approvals")
    assert [one["id"] for one in told["approvals"]] == [late]


async def test_a_decision_is_told_as_it_was_made(board: Board) -> None:
    """With whom the token named, and when; the same again is the same answer, the other is a conflict."""
    approval = await propose(board)
    board.hands.move(timedelta(minutes=5))
    decided = await board.post(decision_of(approval), {"decision": "reject", "reason": "Too dear."})
    check(decided, DECIDED)
    told = {"decision": "reject", "decidedBy": FOUNDER, "decidedAt": "2026-11-25T12:05:00Z", "reason": "Too dear."}
    assert decided | told == decided
    board.hands.move(HOUR)
    assert await board.post(decision_of(approval), {"decision": "reject"}) == decided
    assert (await board.post(decision_of(approval), {"decision": "approve"}))["reason"] == "approval_decided"
    assert (await board.get("/executives/pending-approvals"))["total"] == 0
    shown = (await board.get("/executives/activity", action="approval_rejected"))["activities"]
    assert [one["metadata"] for one in shown] == [{"approvalId": approval, "by": FOUNDER}]


async def test_a_decision_needs_no_reason(board: Board) -> None:
    """Then there is none."""
    decided = await board.post(decision_of(await propose(board)), {"decision": "approve"})
    check(decided, DECIDED)
    assert decided["reason"] is None


async def test_two_tabs_decide_at_once(board: Board) -> None:
    """One decides, the other is told how."""
    path = decision_of(await propose(board))
    verdicts = [{"decision": "approve"}, {"decision": "reject"}]
    told = await asyncio.gather(*(board.post(path, verdict) for verdict in verdicts))
    assert sorted(one.get("statusCode", 200) for one in told) == [200, 409]


async def test_an_expired_one_is_a_conflict(board: Board) -> None:
    """And is not among what waits."""
    approval = await propose(board, hours=1)
    board.hands.move(HOUR)
    told = await board.post(decision_of(approval), {"decision": "approve"})
    assert (told["statusCode"], told["reason"]) == (409, "approval_expired")


async def test_nobody_sees_or_decides_anothers(board: Board) -> None:
    """Also under the same ids; whoever has nobody is shown nobody."""
    await hire(board.database, "ann", "cfo", name="Her Own")
    hers, his = await propose(board, subscriber="ann"), await propose(board)
    for subject, approval, name in (("ann", hers, "Her Own"), (FOUNDER, his, "Ingrid Solheim")):
        waiting = (await board.get("/executives/pending-approvals", subject))["approvals"]
        done = (await board.get("/executives/activity", subject))["activities"]
        assert [(one["id"], one["executiveName"]) for one in waiting] == [(approval, name)]
        assert [one["metadata"]["approvalId"] for one in done] == [approval]
    assert (await board.get("/executives/list", "ann"))["total"] == 1
    assert (await board.post(decision_of(his), {"decision": "approve"}, "ann"))["reason"] == "approval_unknown"
    for path in PATHS:
        assert (await board.get(path, "bob"))["total"] == 0


@pytest.mark.parametrize("path", PATHS)
async def test_the_prefix_may_be_left_out(board: Board, path: str) -> None:
    """As the portal's rewriting leaves it out."""
    await propose(board)
    assert await board.get(path.removeprefix("/executives")) == await board.get(path)
    short = decision_of(await propose(board)).removeprefix("/executives")
    assert (await board.post(short, {"decision": "approve"}))["decision"] == "approve"


@pytest.mark.parametrize("path", PATHS)
async def test_polling_costs_no_body(board: Board, path: str) -> None:
    """While nothing has changed; once something has, it is told."""
    headers = bearer(board.hands)
    async with board.client.get(path, headers=headers) as first:
        assert first.headers["Cache-Control"] == "private, no-cache"
        headers |= {"If-None-Match": first.headers["ETag"]}
    async with board.client.get(path, headers=headers) as second:
        assert (second.status, await second.read()) == (304, b"")
    await propose(board)
    await hire(board.database, FOUNDER, "new")
    async with board.client.get(path, headers=headers) as third:
        assert third.status == 200


@pytest.mark.parametrize("path", [*PATHS, decision_of("00000000-0000-4000-8000-000000000000")])
async def test_whoever_has_no_token_is_not_known(board: Board, path: str) -> None:
    """Nor is one whose token has expired."""
    method, body = ("POST", {"decision": "approve"}) if path.endswith("decision") else ("GET", None)
    async with board.client.request(method, path, json=body) as answer:
        assert (answer.status, (await answer.json(content_type=None))["reason"]) == (401, "token_missing")
    expired = bearer(board.hands)
    board.hands.move(HOUR)
    async with board.client.request(method, path, json=body, headers=expired) as answer:
        assert (answer.status, (await answer.json(content_type=None))["reason"]) == (401, "token_expired")


@pytest.mark.parametrize(
    "query",
    [
        "list?limit=0", "list?limit=101", "list?limit=x", "list?offset=-1", "list?offset=1000001", "list?role=%00",
        "list?status=", "list?page=1", "list?limit=1&limit=2", "activity?executiveId=a%00", "activity?executiveId=a/b",
        "activity?action=%00", "activity?from=yesterday", "activity?to=2026-13-01", "activity?since=2026-11-25",
        "pending-approvals?status=done",
    ],
)  # fmt: skip
async def test_what_cannot_be_understood_is_the_callers_fault(board: Board, query: str) -> None:
    """Nothing of it reaches the database."""
    async with board.client.get(f"/executives/{query}", headers=bearer(board.hands)) as answer:
        assert (answer.status, (await answer.json(content_type=None))["reason"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "verdict", [{}, {"decision": "maybe"}, {"decision": "approve", "reason": "\0"}, {"reason": "x"}, [], "approve"]
)
async def test_a_verdict_is_one_of_two(board: Board, verdict: object) -> None:
    """Whatever else it is, nothing is decided."""
    approval = await propose(board)
    assert (await board.post(decision_of(approval), verdict))["statusCode"] == 400
    assert (await board.get("/executives/pending-approvals"))["total"] == 1
    assert (await board.post(decision_of("nothing"), {"decision": "approve"}))["statusCode"] in {400, 404}


ANY_QUERY = st.dictionaries(
    st.sampled_from(["role", "status", "executiveId", "action", "from", "to", "limit", "offset"]),
    st.text(st.characters(exclude_categories=["Cs"])) | st.datetimes().map(str) | st.integers().map(str),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(ANY_QUERY, st.sampled_from(PATHS), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
async def test_no_query_is_an_error_of_ours(board: Board, query: dict[str, str], path: str, subject: str) -> None:
    """Whoever asks whatever is answered, or told what is wrong."""
    told = await board.get(path, subject, **query)
    assert told.get("statusCode", 200) in {200, 400, 401}


async def test_a_subject_is_text_that_can_be_kept(board: Board) -> None:
    """PostgreSQL keeps no NUL, so nobody is named so."""
    assert (await board.get("/executives/list", "a\0b"))["reason"] == "token_invalid"


async def test_nothing_of_a_caller_is_logged(board: Board, witness: Witness) -> None:
    """Neither queries nor reasons."""
    await board.get("/executives/list", role="a-role-of-mine")
    await board.post(decision_of(await propose(board)), {"decision": "reject", "reason": "a-reason-of-mine"})
    assert "of-mine" not in repr(witness.lines)


async def test_lists_are_described(board: Board) -> None:
    """With every parameter, by the names that callers write."""
    async with board.client.get("/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    names = {path: [one["name"] for one in paths[path]["get"]["parameters"]] for path in PATHS}
    assert names == {
        "/executives/list": ["limit", "offset", "role", "status"],
        "/executives/activity": ["executiveId", "action", "from", "to", "limit", "offset"],
        "/executives/pending-approvals": ["limit", "offset"],
    }
    assert "post" in paths[decision_of("{approval_id}")]
