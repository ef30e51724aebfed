"""Asking executives: text and speech, as JSON and as they come."""

import asyncio
import base64
import io
import json
import wave
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from handlers.executives.interaction import SHARED_S
from handlers.executives.service import Executives
from sovren_edge.handler import Database, Edge
from tests.executives.board import FOUNDER, Hands, bearer, hire
from tests.executives.chat_server import (
    DONE,
    STOP,
    Break,
    ChatServer,
    Pause,
    called,
    chat_server,
    said,
    texts_of,
    usage,
    whole,
    words,
)
from tests.executives.portal import TEXT, TIME, UUID, check, shape
from tests.executives.talk import INTERACT, Talk, question, talking
from tests.local.conftest import running_engine
from tests.ports import free_port
from tests.relay.harness import eventually

SAID = "Good morning. All is well here, and the figures are better than we thought."
AUDIO = shape(
    format={"const": "wav"}, duration={"type": "number", "exclusiveMinimum": 0},
    url={"type": "string", "pattern": "^/executives/audio/[A-Za-z0-9_-]{22}$"},
    base64={"type": ["string", "null"]}, error={"type": "null"},
)  # fmt: skip
ANSWER = shape(
    executiveId=TEXT, response=TEXT, timestamp=TIME, sessionId=UUID, audio=AUDIO, approval={"type": "null"},
    sources={"type": "null"},
)  # fmt: skip
PROPOSAL = '{"action":"Hire two people.","type":"hiring","value":120000,"currency":"USD","risk":"medium"}'


@pytest.fixture(scope="session")
def speech() -> Iterator[str]:
    """Yield the URL of a real engine."""
    with running_engine() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def speaking(edge: Edge, speech: str) -> Edge:
    """Return an edge whose speech is that engine."""
    return replace(edge, doors={"tts-master": speech})


@pytest.fixture
async def chat() -> AsyncIterator[ChatServer]:
    """Yield a model that says something."""
    async with chat_server(words(SAID)) as server:
        yield server


@pytest.fixture
async def talk(chat: ChatServer, speaking: Edge, database: Database, hands: Hands) -> AsyncIterator[Talk]:
    """Yield the board."""
    async with talking(chat, speaking, database, hands) as talk:
        yield talk


@pytest.fixture
async def mute(chat: ChatServer, edge: Edge, database: Database, hands: Hands) -> AsyncIterator[Talk]:
    """Yield a board that has no speech."""
    async with talking(chat, edge, database, hands) as talk:
        yield talk


async def test_an_answer_is_text_and_speech(talk: Talk) -> None:
    """In the portal's shape; the speech is where the answer says, for whoever has its address, in ranges too."""
    status, headers, answer = await talk.send(question())
    assert (status, headers["Content-Type"]) == (200, "application/json")
    check(answer, ANSWER)
    assert (answer["executiveId"], answer["response"]) == ("ceo", SAID)
    for path in (answer["audio"]["url"], answer["audio"]["url"].removeprefix("/executives")):
        async with talk.board.client.get(path) as audio:
            content = await audio.read()
            assert (audio.status, audio.content_type) == (200, "audio/wav")
            assert audio.headers["Cache-Control"].startswith("private, max-age=")
    with wave.open(io.BytesIO(content)) as file:
        assert file.getframerate() == 24_000
        assert file.getnframes() / 24_000 == pytest.approx(answer["audio"]["duration"], abs=0.001)
        assert any(file.readframes(24_000))
    async with talk.board.client.get(path, headers={"Range": "bytes=44-143"}) as part:
        assert (part.status, await part.read()) == (206, content[44:144])
    for faulty in (f"bytes={len(content)}-", "bytes=9-1", "lines=1-2"):
        async with talk.board.client.get(path, headers={"Range": faulty}) as refused:
            assert (refused.status, (await refused.json(content_type=None))["reason"]) == (416, "range_unknown")


@pytest.mark.parametrize("path", ["/executives/interact", "/interact"])
async def test_what_the_model_is_told(mute: Talk, path: str) -> None:
    """Who it is, how it speaks, and the question with its context; the portal's rewrites change nothing."""
    await mute.send(question("How are we?", context={"page": "home"}), path)
    (asked,) = mute.chat.asked
    (system, manner), (user, text) = texts_of(asked)
    assert (system, user, text) == ("system", "user", 'How are we?\n\nContext: {"page":"home"}')
    assert manner.startswith("You are Evelyn Marchetti, CEO of the Shadow Board. You lead the board")
    assert (asked["model"], asked["stream"], asked["max_tokens"]) == ("scripted", True, 400)


async def test_speech_can_be_within_the_answer(talk: Talk) -> None:
    """As base64 of the same file, and that shares the answer of who wants it elsewhere."""
    there, within = await asyncio.gather(talk.ask(), talk.ask(audio="base64"))
    assert there["sessionId"] == within["sessionId"]
    async with talk.board.client.get(there["audio"]["url"]) as audio:
        assert base64.b64decode(within["audio"]["base64"]) == await audio.read()
    assert there["audio"]["base64"] is None
    assert len(talk.chat.asked) == 1


async def test_without_speech_nothing_is_spoken(mute: Talk) -> None:
    """Who wants text alone gets it, and speech that is away is nobody's loss."""
    answer = await mute.ask(audio="none")
    assert (answer["response"], answer["audio"]) == (SAID, None)


async def test_speech_that_is_away_is_told(mute: Talk) -> None:
    """The text comes, and the audio says why not."""
    answer = await mute.ask()
    assert answer["response"] == SAID
    assert answer["audio"]["url"] is None
    assert answer["audio"]["error"] == "speech is away (LookupError)"
    events = await mute.whole_stream(question("Again?"))
    assert [data["error"] for name, data in events if name == "audio_error"] == ["speech is away (LookupError)"]
    assert events[-1][0] == "done"


async def test_audio_starts_before_the_model_has_finished(talk: Talk) -> None:
    """Text and audio flow as they come, and all of them are the whole answer."""
    go_on = asyncio.Event()
    talk.chat.say([*map(said, ("Good morning. ", "All is ")), Pause(go_on), said("well."), STOP, usage(5, 3), DONE])
    heard: list[tuple[str, Any]] = []
    async with talk.stream(question(audio="base64")) as events:
        async for event in events:
            heard.append(event)
            if event[0] == "audio":
                go_on.set()
    names = [name for name, _ in heard]
    assert (names[0], names[1], names[-1]) == ("session", "text", "done")
    assert names.index("audio") < len(names) - 1 - names[::-1].index("text")
    assert "".join(data["delta"] for name, data in heard if name == "text") == "Good morning. All is well."
    done = heard[-1][1]
    check(done, ANSWER)
    assert done["sessionId"] == heard[0][1]["sessionId"]
    samples = b"".join(base64.b64decode(data["data"]) for name, data in heard if name == "audio")
    assert base64.b64decode(done["audio"]["base64"])[44:] == samples
    assert {(data["format"], data["sampleRate"]) for name, data in heard if name == "audio"} == {("pcm", 24_000)}


async def test_a_conversation_goes_on(mute: Talk, database: Database) -> None:
    """The model is told what was said before, as much as is kept; a session is one subscriber's and one executive's."""
    await hire(database, "ann", "ceo")
    first = await mute.ask("One?")
    session = first["sessionId"]
    for number in range(11):
        again = await mute.ask(f"Question {number}?", sessionId=session)
        assert again["sessionId"] == session
    told = list(texts_of(mute.chat.asked[-1]))
    assert [role for role, _ in told] == ["system", *("user", "assistant") * 10, "user"]
    assert [text for role, text in told if role == "user"] == [f"Question {number}?" for number in range(11)]
    assert {text for role, text in told if role == "assistant"} == {SAID}
    for subject, executive in (("ann", "ceo"), (FOUNDER, "cfo")):
        refused = await mute.ask("Mine?", subject, sessionId=session, executiveId=executive)
        assert (refused["statusCode"], refused["reason"]) == (404, "session_unknown")
    assert (await mute.ask("Where?", sessionId="x"))["statusCode"] == 400


async def test_equal_questions_cost_one_answer(mute: Talk, hands: Hands, database: Database) -> None:
    """While it is made and for half a minute, in either form; whatever is different is asked anew."""
    await hire(database, "ann", "ceo")
    go_on = asyncio.Event()
    mute.chat.say([said("Well."), Pause(go_on), STOP, DONE])
    asking = [asyncio.ensure_future(mute.ask()) for _ in range(3)]
    async with mute.stream(question()) as events:
        assert (await anext(events))[0] == "session"
        go_on.set()
        streamed = [event async for event in events]
    answers = [await one for one in asking]
    assert all(answer == answers[0] == streamed[-1][1] for answer in answers)
    assert await mute.ask() == answers[0]
    assert len(mute.chat.asked) == 1
    for subject, members in (
        ("ann", {}), (FOUNDER, {"executiveId": "cfo"}), (FOUNDER, {"context": "x"}), (FOUNDER, {"audio": "none"}),
        (FOUNDER, {"sessionId": answers[0]["sessionId"]}),
    ):  # fmt: skip
        assert (await mute.ask(subject=subject, **members))["response"] == "Well."
    assert len(mute.chat.asked) == 6
    hands.move(timedelta(seconds=SHARED_S))
    assert (await mute.ask())["timestamp"] != answers[0]["timestamp"]
    assert len(mute.chat.asked) == 7


async def test_a_key_makes_a_request_safe_to_repeat(
    chat: ChatServer, edge: Edge, database: Database, hands: Hands
) -> None:
    """Its answer is the same for a day, also of another process; for another request the key is refused."""
    async with talking(chat, edge, database, hands) as talk:
        _, _, first = await talk.send(question(), **{"Idempotency-Key": "k-1"})
        other = await talk.send(question("Else?"), **{"Idempotency-Key": "k-1"})
        assert (other[0], other[2]["reason"]) == (422, "idempotency_key_reused")
        for key in ("", "\xe4", "x" * 256):
            faulty = await talk.send(question(), **{"Idempotency-Key": key})
            assert (faulty[0], faulty[2]["reason"]) == (400, "invalid_request")
            assert faulty[2]["detail"].startswith("header.Idempotency-Key: String should match")
        _, _, another = await talk.send(question(), **{"Idempotency-Key": "k-2"})
        assert another["sessionId"] != first["sessionId"]
        async with talk.board.client.get("/openapi.json") as answer:
            asking = (await answer.json())["paths"][INTERACT]["post"]
        assert [(one["name"], one["in"], one["required"]) for one in asking["parameters"]] == [
            ("Idempotency-Key", "header", False)
        ]
        assert list(asking["responses"]["200"]["content"]) == ["application/json", "text/event-stream"]
    hands.move(timedelta(hours=23))
    async with talking(chat, edge, database, hands) as talk:
        assert (await talk.send(question(), **{"Idempotency-Key": "k-1"}))[2] == first
        other = await talk.send(question("Else?"), **{"Idempotency-Key": "k-1"})
        assert (other[0], other[2]["reason"]) == (422, "idempotency_key_reused")
        hands.move(timedelta(hours=1))
        assert (await talk.send(question("Else?"), **{"Idempotency-Key": "k-1"}))[0] == 200
    assert len(chat.asked) == 3


async def test_a_repeated_request_finds_its_speech(
    chat: ChatServer, speaking: Edge, database: Database, hands: Hands
) -> None:
    """Where it is, and within the answer, also of another process."""
    given = {"Idempotency-Key": "k-1"}
    async with talking(chat, speaking, database, hands) as talk:
        first = (await talk.send(question(audio="base64"), **given))[2]
    async with talking(chat, speaking, database, hands) as talk:
        assert (await talk.send(question(audio="base64"), **given))[2] == first
        async with talk.board.client.get(first["audio"]["url"]) as audio:
            assert base64.b64decode(first["audio"]["base64"]) == await audio.read()


async def test_a_caller_that_leaves_ends_the_models_work(mute: Talk) -> None:
    """Once nobody is left, and nobody has come back."""
    mute.chat.say([said("Well."), Pause(asyncio.Event())])
    async with mute.stream(question()) as events:
        assert (await anext(events))[0] == "session"
    await eventually(lambda: mute.chat.gone)
    mute.chat.say(words(SAID))
    assert (await mute.ask())["response"] == SAID


async def test_a_model_that_is_away(edge: Edge, database: Database, hands: Hands) -> None:
    """A caller hears so at once, in either form; after some failures nobody is asked until a probe is answered."""
    chat = ChatServer(url=f"http://127.0.0.1:{free_port()}/v1")
    async with talking(chat, edge, database, hands) as talk:
        for accept in ("application/json", "text/event-stream"):
            status, headers, problem = await talk.send(question(), Accept=accept)
            assert (status, headers["Retry-After"], problem["reason"]) == (503, "5", "chat_unavailable")
            assert headers["Content-Type"] == "application/problem+json"
    async with chat_server(words(SAID)) as real, talking(real, edge, database, hands) as talk:
        real.status, real.models = 500, real.models
        for _ in range(3):
            assert (await talk.send(question()))[2]["reason"] == "chat_failed"
        asked = len(real.asked)
        real.status = 200
        while (await talk.send(question()))[0] != 200:  # noqa: ASYNC110 - to ask is the condition
            await asyncio.sleep(0.01)
        assert len(real.asked) == asked + 1


@pytest.mark.parametrize("url", ["http://me:secret@chat/v1", "http://chat/v1?key=secret", "http://chat/v1#x"])
def test_a_models_url_holds_no_secret(url: str) -> None:
    """It would be told to whoever reads the configuration; and it is a place, no more."""
    with pytest.raises(ValidationError, match="without user, password, query and fragment"):
        Executives.model_validate_json(json.dumps({"chat_url": url}))


async def test_without_a_model_nobody_is_asked(edge: Edge, database: Database, hands: Hands) -> None:
    """Neither a URL nor a service: the port serves all the same, and says what it lacks."""
    async with talking(ChatServer(), edge, database, hands, chat_url=None) as talk:
        status, _, problem = await talk.send(question())
        assert (status, problem["reason"]) == (503, "chat_not_configured")
        assert (await talk.board.get("/executives/list", limit=1))["executives"][0]["id"] == "ceo"


async def test_a_model_that_breaks_off(mute: Talk, database: Database) -> None:
    """What has begun ends with an error, and nothing of it is kept; to ask again is to try again."""
    mute.chat.say([said("Well, "), Break()], [said("Well, "), Break()], words(SAID))
    status, headers, problem = await mute.send(question())
    assert (status, problem["reason"], headers["Retry-After"]) == (502, "chat_failed", "5")
    events = await mute.whole_stream(question())
    assert [name for name, _ in events] == ["session", "text", "audio_error", "error"] or [
        name for name, _ in events
    ] == ["session", "text", "error"]
    assert events[-1][1]["reason"] == "chat_failed"
    assert events[-1][1]["error"] == events[-1][1]["detail"] == "The chat model failed before its answer was whole."
    assert await database.fetchval("SELECT count(*) FROM executive_exchanges") == 0
    assert (await mute.ask())["response"] == SAID


async def test_an_answer_may_propose_something(mute: Talk) -> None:
    """What the model asks consent for waits for a decision; without words of its own, it is said."""
    mute.chat.say(
        [
            said("I would hire."),
            called(0, "propose_approval", PROPOSAL[:20]),
            called(0, None, PROPOSAL[20:]),
            STOP,
            DONE,
        ]
    )
    answer = await mute.ask(audio="none")
    pending = await mute.board.get("/executives/pending-approvals")
    (waiting,) = pending["approvals"]
    assert (waiting["id"], waiting["action"]) == (answer["approval"]["id"], "Hire two people.")
    assert answer["response"] == "I would hire."
    mute.chat.say([called(0, "propose_approval", PROPOSAL), STOP, DONE])
    assert (await mute.ask("Else?"))["response"] == "I propose this: Hire two people. It waits for your decision."
    assert mute.chat.asked[0]["tools"][0]["function"]["name"] == "propose_approval"


async def test_a_proposal_is_kept_with_its_answer_or_not_at_all(mute: Talk, database: Database) -> None:
    """Nobody decides what belongs to an answer that nobody got."""
    mute.chat.say([said("I would hire."), called(0, "propose_approval", PROPOSAL), STOP, DONE])
    await database.execute("ALTER TABLE executive_sessions RENAME TO elsewhere")
    assert (await mute.ask())["statusCode"] == 500
    await database.execute("ALTER TABLE elsewhere RENAME TO executive_sessions")
    assert (await mute.board.get("/executives/pending-approvals"))["total"] == 0
    assert (await mute.ask())["approval"]["action"] == "Hire two people."


async def test_another_function_is_no_proposal(mute: Talk) -> None:
    """Whatever it is called with."""
    mute.chat.say([said("Well."), called(0, "pay_at_once", PROPOSAL), STOP, DONE])
    assert (await mute.ask())["approval"] is None


@pytest.mark.parametrize("arguments", ["{", '{"action":"","type":"hiring"}', '{"action":"x","type":"y","value":-1}'])
async def test_a_proposal_that_is_none_is_passed_over(mute: Talk, arguments: str) -> None:
    """The answer comes without it; an answer that would be empty is none."""
    mute.chat.say([said("Well."), called(0, "propose_approval", arguments), STOP, DONE])
    assert (await mute.ask(audio="none"))["approval"] is None
    mute.chat.say([called(0, "propose_approval", arguments), STOP, DONE])
    assert (await mute.ask("Else?"))["reason"] == "chat_empty"
    assert (await mute.board.get("/executives/pending-approvals"))["total"] == 0


async def test_what_an_answer_cost_is_recorded(mute: Talk, database: Database) -> None:
    """With the tokens that the server tells, if it tells them."""
    mute.chat.say(whole("A ", "word."), [said("Well."), STOP])
    await mute.ask()
    await mute.ask("Else?")
    rows = await database.fetch("SELECT * FROM executive_usage ORDER BY usage_id")
    assert [(row["model"], row["prompt_tokens"], row["completion_tokens"]) for row in rows] == [
        ("scripted", 11, 2), ("scripted", None, None),
    ]  # fmt: skip
    told = await mute.board.get("/executives/activity")
    assert [one["action"] for one in told["activities"]] == ["interaction", "interaction"]


async def test_what_came_to_nothing_has_cost_as_well(mute: Talk, database: Database) -> None:
    """Its row says by whom and for whom; of what never began there is none."""
    mute.chat.say([said("Well, "), Break()])
    assert (await mute.ask())["reason"] == "chat_failed"
    mute.chat.say([Break()])
    await mute.ask("Else?")
    rows = await database.fetch("SELECT * FROM executive_usage")
    assert [(row["executive_id"], row["action"], row["audio_ms"]) for row in rows] == [("ceo", "interaction", 0)]


async def test_only_so_many_answers_are_made_at_once(
    chat: ChatServer, edge: Edge, database: Database, hands: Hands
) -> None:
    """Others wait for their turn, and not for ever; one's own share is told at once."""
    go_on = asyncio.Event()
    chat.say([said("Well."), Pause(go_on), STOP, DONE])
    await hire(database, "other", "ceo", name="Another")
    async with talking(chat, edge, database, hands, answers=1, queue_timeout_s=0.05) as talk:
        async with talk.stream(question("First?")) as events:
            assert (await anext(events))[0] == "session"
            others = bearer(hands, "other")
            status, headers, problem = await talk.send(question("First?"), **others)
            assert (status, headers["Retry-After"], problem["reason"]) == (503, "5", "answers_busy")
            status, headers, problem = await talk.send(question("Second?"))
            assert (status, headers["Retry-After"], problem["reason"]) == (429, "5", "too_many_answers")
            go_on.set()
            assert [name async for name, _ in events][-1] == "done"
        assert (await talk.ask("Second?"))["response"] == "Well."


async def test_an_answer_has_a_time(chat: ChatServer, edge: Edge, database: Database, hands: Hands) -> None:
    """One that is not whole by then fails."""
    chat.say([said("Well."), Pause(asyncio.Event())])
    async with talking(chat, edge, database, hands, answer_timeout_s=0.05) as talk:
        assert (await talk.send(question()))[2]["reason"] == "answer_timeout"


async def test_who_can_be_asked(mute: Talk, database: Database) -> None:
    """One's own executives, as long as they are there; callers are known by their tokens."""
    await hire(database, "ann", "resting", status="away")
    for subject, executive, status, reason in (
        (FOUNDER, "nobody", 404, "executive_unknown"), ("ann", "ceo", 404, "executive_unknown"),
        ("ann", "resting", 409, "executive_away"),
    ):  # fmt: skip
        refused = await mute.ask(subject=subject, executiveId=executive)
        assert (refused["statusCode"], refused["reason"]) == (status, reason)
    async with mute.board.client.post(INTERACT, json=question()) as answer:
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    for body in (
        {},
        {"executiveId": "ceo", "message": ""},
        question("x" * 8001),
        question("\0"),
        question(audio="mp3"),
    ):
        assert (await mute.board.post(INTERACT, body))["statusCode"] == 400
    assert mute.chat.asked == []


@pytest.mark.parametrize("audio_id", ["x" * 22, "x" * 21, "..%2F..%2Fetc%2Fpasswd"])
async def test_speech_that_is_not_there(mute: Talk, audio_id: str) -> None:
    """A 404, or a 400 for what is no id."""
    async with mute.board.client.get(f"/executives/audio/{audio_id}") as answer:
        assert answer.status == (404 if audio_id == "x" * 22 else 400)


def counted(talk: Talk) -> dict[tuple[str, ...], float]:
    """Return what was counted, by name and label."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in talk.edge.metrics.registry.collect()
        for sample in family.samples
        if sample.name.endswith(("_count", "_total"))
    }


async def test_steps_are_counted(chat: ChatServer, speaking: Edge, database: Database, hands: Hands) -> None:
    """Each answer counts once in each step that it reached, and by its end."""
    async with talking(chat, speaking, database, hands) as talk:
        await talk.ask()
        await talk.ask("Else?", audio="none")
        await talk.ask("Else?", audio="none")
        chat.status = 400
        await talk.ask("More?")
        await eventually(lambda: ("executives_answers_total", "failed") in counted(talk))
    assert counted(talk) == {
        ("executives_step_seconds_count", "queue"): 3, ("executives_step_seconds_count", "first_token"): 2,
        ("executives_step_seconds_count", "first_audio"): 1, ("executives_step_seconds_count", "whole"): 2,
        ("executives_answers_total", "done"): 2, ("executives_answers_total", "failed"): 1,
        ("executives_shared_total",): 1,
    }  # fmt: skip


async def test_a_board_that_closes_gives_up_what_is_in_the_making(
    chat: ChatServer, edge: Edge, database: Database, hands: Hands
) -> None:
    """Its callers hear so."""
    chat.say([said("Well."), Pause(asyncio.Event())])
    async with talking(chat, edge, database, hands) as talk:
        given = bearer(hands)
        asking = asyncio.ensure_future(talk.board.client.post(INTERACT, json=question(), headers=given))
        await eventually(lambda: chat.asked)
        asking.cancel()
    await eventually(lambda: chat.gone)
