"""An answer in the making, and who shares it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from handlers.executives.events import Done, Event, Failed, Said
from handlers.executives.interaction import SHARED_S, Desk, Interaction
from handlers.executives.models import Answer
from handlers.executives.recording import Recording
from sovren_edge.handler import EdgeError

ANSWER = Answer.model_validate(
    {"executiveId": "ceo", "response": "Yes.", "timestamp": "2026-11-25T12:00:00Z",
     "sessionId": "00000000-0000-4000-8000-000000000000"}
)  # fmt: skip
LOG = structlog.get_logger()


class Stage:
    """Makes interactions whose work the test leads."""

    def __init__(self, directory: Path, group: asyncio.TaskGroup) -> None:
        self.directory = directory
        self.group = group

    def begin(self, *events: Event, until: asyncio.Event | None = None, linger_s: float = 0.0) -> Interaction:
        """Begin one that tells these events, the last one after the test has gone on."""

        async def work(interaction: Interaction) -> None:
            for event in events[:-1]:
                interaction.tell(event)
            if until is not None:
                await until.wait()
            interaction.tell(events[-1])

        interaction = Interaction(Recording(self.directory, "one"), b"", linger_s)
        self.task = interaction.begin(work, self.group.create_task, LOG)
        return interaction


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Yield a stage whose work has ended with the test."""
    async with asyncio.TaskGroup() as group:
        yield Stage(tmp_path, group)


async def heard(interaction: Interaction) -> list[Event]:
    """Return all that a follower is told."""
    with interaction.followed():
        return [event async for events in interaction.events() for event in events]


async def test_whoever_comes_late_is_told_all_of_it(stage: Stage) -> None:
    """Everybody hears the same, whenever they come."""
    go_on = asyncio.Event()
    told = [Said("Y"), Said("es."), Done(ANSWER)]
    interaction = stage.begin(*told, until=go_on)
    first = asyncio.ensure_future(heard(interaction))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(heard(interaction))
    go_on.set()
    assert await first == await second == await heard(interaction) == told
    interaction.tell(Said("more"))
    assert await heard(interaction) == told


async def test_silence_is_told_to_who_asks_for_it(stage: Stage) -> None:
    """A follower that must show life is told when nothing happens."""
    go_on = asyncio.Event()
    interaction = stage.begin(Done(ANSWER), until=go_on)
    with interaction.followed():
        events = interaction.events(0.001)
        assert await anext(events) == ()
        go_on.set()
        while not (told := await anext(events)):
            pass
    assert told == [Done(ANSWER)]


async def test_what_nobody_follows_is_given_up(stage: Stage) -> None:
    """The work ends when the last follower has left, and its speech is removed."""
    interaction = stage.begin(Said("Y"), Done(ANSWER), until=asyncio.Event())
    await interaction.recording.append(b"\x00\x00")
    events = interaction.events()
    with interaction.followed(), interaction.followed():
        assert await anext(events) == [Said("Y")]
    with pytest.raises(asyncio.CancelledError):
        await stage.task
    assert isinstance(interaction.end, Failed)
    assert interaction.end.problem.reason == "answer_given_up"
    assert not list(stage.directory.glob("*"))


async def test_who_comes_back_soon_finds_it_going_on(stage: Stage) -> None:
    """A caller that leaves and asks again costs no second answer."""
    go_on = asyncio.Event()
    interaction = stage.begin(Done(ANSWER), until=go_on, linger_s=0.05)
    with interaction.followed():
        pass
    with interaction.followed():
        await asyncio.sleep(0.1)
        go_on.set()
        await stage.task
    assert interaction.end == Done(ANSWER)


async def test_what_ended_well_after_all_had_left_is_there_for_who_asks_again(stage: Stage) -> None:
    """A page that gave up too soon finds its answer."""
    go_on = asyncio.Event()
    interaction = stage.begin(Done(ANSWER), until=go_on, linger_s=0.01)
    with interaction.followed():
        pass
    go_on.set()
    await stage.task
    await asyncio.sleep(0.03)
    assert interaction.shareable
    assert interaction.end == Done(ANSWER)


async def test_whoever_leaves_twice_has_the_whole_time_again(stage: Stage) -> None:
    """What the first leaving had begun ends with the coming back."""
    interaction = stage.begin(Done(ANSWER), until=asyncio.Event(), linger_s=0.2)
    loop = asyncio.get_running_loop()
    with interaction.followed():
        pass
    await asyncio.sleep(0.15)
    left_at = loop.time()
    with interaction.followed():
        pass
    with pytest.raises(asyncio.CancelledError):
        await stage.task
    assert loop.time() - left_at >= 0.19
    assert not interaction.shareable


async def test_faults_are_ends(stage: Stage) -> None:
    """What is refused is told as it is; what nobody expected is logged, and told without its words."""

    async def refuse(_: Interaction) -> None:
        raise EdgeError(503, "chat_unavailable", "Away.", retry_after_s=5)

    async def fail(_: Interaction) -> None:
        raise ValueError("secret")

    refused, failed = (Interaction(Recording(stage.directory, "one"), b"") for _ in range(2))
    with capture_logs() as logs:
        await refused.begin(refuse, stage.group.create_task, LOG)
        await failed.begin(fail, stage.group.create_task, structlog.get_logger())
    assert isinstance(refused.end, Failed)
    assert (refused.end.problem.status, refused.end.problem.retry_after_s) == (503, 5)
    assert isinstance(failed.end, Failed)
    assert failed.end.problem.reason == "internal_error"
    assert "secret" not in failed.end.problem.detail
    assert [line["event"] for line in logs] == ["answer_failed"]


async def test_equal_questions_share_an_answer_for_a_while(stage: Stage) -> None:
    """The same one while it is made and for 30 seconds after its end; then it is forgotten."""
    seconds = [0.0]
    desk = Desk(lambda: seconds[0])
    go_on = asyncio.Event()
    interaction = stage.begin(Done(ANSWER), until=go_on)
    desk.put("a", interaction, stage.task)
    seconds[0] = 1000.0
    assert desk.find("a") is interaction
    assert desk.find("b") is None
    go_on.set()
    await stage.task
    await asyncio.sleep(0)
    seconds[0] += SHARED_S - 1
    assert desk.find("a") is interaction
    seconds[0] += 1
    assert desk.find("a") is None


async def test_what_failed_is_not_shared_with_who_comes_later(stage: Stage) -> None:
    """To ask again is to try again."""
    desk = Desk(lambda: 0.0)
    problem = EdgeError(502, "chat_failed", "It failed.").problem
    desk.put("a", stage.begin(Failed(problem)), stage.task)
    await stage.task
    await asyncio.sleep(0)
    assert desk.find("a") is None
    again = stage.begin(Done(ANSWER))
    desk.put("a", again, stage.task)
    assert desk.find("a") is again
