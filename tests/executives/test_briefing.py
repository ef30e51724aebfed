"""A briefing rests on what is known, and says what was."""

from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from handlers.executives.proposal import Proposal
from sovren_edge.auth.tokens import OPERATOR
from sovren_edge.handler import Database, Edge
from tests.executives.board import FOUNDER, NOON, Hands, bearer, hire, propose
from tests.executives.chat_server import ChatServer, chat_server, texts_of, words
from tests.executives.talk import Talk, talking

PATH = "/executives/briefing/founder"
USAGE = {"quota": {"used": 3, "limit": 100}, "totals": {"requests": 3}, "series": [], "period": {}}


class Gateway:
    """Tells usage to the token that it was asked with."""

    def __init__(self) -> None:
        self.status = 200
        self.authorizations: list[str] = []

    async def usage(self, request: web.Request) -> web.Response:
        """Tell it."""
        assert request.path == "/usage/founder"
        self.authorizations.append(request.headers["Authorization"])
        return web.json_response(USAGE, status=self.status)


@pytest.fixture
async def gateway(edge: Edge) -> AsyncIterator[Gateway]:
    """Serve usage where the edge finds it."""
    gateway = Gateway()
    application = web.Application()
    application.router.add_get("/usage/{subscriber}", gateway.usage)
    async with TestServer(application) as server:
        edge.doors["api-gateway"] = str(server.make_url("")).rstrip("/")  # type: ignore[index] # the test's own
        yield gateway


@pytest.fixture
async def talk(edge: Edge, database: Database, hands: Hands) -> AsyncIterator[Talk]:
    """Yield the board with a model and without speech."""
    async with (
        chat_server(words("Good morning. Nothing is late.")) as chat,
        talking(chat, edge, database, hands) as talk,
    ):
        yield talk


def facts_told(chat: ChatServer) -> dict[str, object]:
    """Return the facts of the model's last request."""
    _, text = list(texts_of(chat.asked[-1]))[-1]
    facts: dict[str, object] = orjson.loads(text.partition("Facts: ")[2])
    return facts


async def test_a_briefing_is_made_of_what_is_known(talk: Talk, gateway: Gateway, database: Database) -> None:
    """Activity, approvals, and the gateway's usage, asked for with the caller's own token; by the CEO."""
    proposal = Proposal(action="Hire two.", type="hiring", risk="low")
    await propose(database, FOUNDER, "cfo", proposal, NOON)
    status, _, told = await talk.send({}, PATH)
    assert (status, told["executiveId"], told["response"]) == (200, "ceo", "Good morning. Nothing is late.")
    assert told["sources"] == {"activities": 1, "approvals": 1, "usage": "available"}
    assert gateway.authorizations == [bearer(talk.board.hands)["Authorization"]]
    assert "tools" not in talk.chat.asked[0]
    facts = facts_told(talk.chat)
    assert facts["external_services_today"] == {"quota": USAGE["quota"], "totals": USAGE["totals"]}
    (waiting,) = facts["waiting_for_decision"]  # type: ignore[misc]
    assert (waiting["who"], waiting["what"], waiting["risk"]) == ("Ingrid Solheim", "Hire two.", "low")
    (happened,) = facts["recent_activity"]  # type: ignore[misc]
    assert happened["what"] == "approval_proposed"
    listed = await talk.board.get("/executives/activity", action="briefing")
    assert listed["total"] == 1


async def test_whoever_is_asked_for_speaks(talk: Talk, gateway: Gateway) -> None:
    """And the conversation goes on from there; the body may be left out."""
    status, _, told = await talk.send({"executiveId": "cfo", "audio": "none"}, "/briefing/founder")
    assert (status, told["executiveId"], told["audio"]) == (200, "cfo", None)
    again = await talk.ask("And then?", executiveId="cfo", sessionId=told["sessionId"])
    assert again["sessionId"] == told["sessionId"]
    async with talk.board.client.post(PATH, headers=bearer(talk.board.hands)) as answer:
        assert (answer.status, (await answer.json())["executiveId"]) == (200, "ceo")
    assert len(gateway.authorizations) == 2


async def test_it_comes_as_it_is_made_too(talk: Talk, gateway: Gateway) -> None:
    """And equal ones are one."""
    events = await talk.whole_stream({}, PATH)
    assert events[-1][1]["sources"]["usage"] == "available"
    assert (await talk.send({}, PATH))[2] == events[-1][1]
    assert (len(talk.chat.asked), len(gateway.authorizations)) == (1, 1)


async def test_what_is_not_known_is_said(talk: Talk, gateway: Gateway) -> None:
    """A gateway that refuses, or that is nowhere, ends no briefing."""
    gateway.status = 503
    assert (await talk.send({}, PATH))[2]["sources"]["usage"] == "unavailable (status 503)"
    talk.chat.say(words("Good morning."))
    edge_without = replace(talk.edge, doors={})
    async with talking(talk.chat, edge_without, talk.board.database, talk.board.hands) as other:
        assert (await other.send({}, PATH))[2]["sources"]["usage"] == "unavailable (LookupError)"
    assert facts_told(talk.chat)["external_services_today"] == "unavailable (LookupError)"


async def test_whose_briefing_it_is(talk: Talk, gateway: Gateway, database: Database) -> None:
    """One's own, but for operators; who has no executives has nobody to brief them."""
    await hire(database, "ann", "ceo")
    for path, subject, scope, status, reason in (
        (PATH, "ann", "", 403, "subscriber_mismatch"), ("/briefing/bob", "bob", "", 404, "executive_unknown"),
        ("/briefing/a%20b", "ann", "", 400, "invalid_request"), (PATH, "ann", OPERATOR, 200, None),
    ):  # fmt: skip
        given = bearer(talk.board.hands, subject, scope)
        async with talk.board.client.post(path, headers=given) as answer:
            assert (answer.status, (await answer.json()).get("reason")) == (status, reason)
    async with talk.board.client.post(PATH) as answer:
        assert answer.status == 401
    assert len(gateway.authorizations) == 1
