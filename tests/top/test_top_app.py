"""The live view, with keys pressed and a program that answers, or does not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from answering import answering
from program_told import Told, endpoint, gateway, pool, port, program, worker
from textual.pilot import Pilot

from sovren_edge.cli.top.app import Pane, Top

SMALL = (80, 24)


@asynccontextmanager
async def watching(directory: Path, size: tuple[int, int] = SMALL) -> AsyncIterator[Pilot[None]]:
    """Watch the program of a state directory."""
    async with Top(directory / "admin.sock").run_test(size=size, notifications=True) as pilot:
        yield pilot


async def eventually(pilot: Pilot[None], condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(30):
        while not condition():
            await pilot.pause(0.02)


def screen(pilot: Pilot[None]) -> str:
    """Return what stands on the screen."""
    strips = pilot.app.screen._compositor.render_strips()  # noqa: SLF001 - the library has no other way to read it
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


def cursor(pilot: Pilot[None]) -> str | None:
    """Return the endpoint that the cursor is on."""
    chosen = pilot.app.query_one("#pools", Pane).chosen
    return None if chosen is None else chosen.endpoint


def many(count: int) -> Told:
    """Return a program with so many endpoints."""
    return program(pools=[pool(*(endpoint(f"tts-{number:03}") for number in range(count)))])


async def test_everything_is_seen_in_a_small_terminal(tmp_path: Path) -> None:
    """80 columns and 24 lines."""
    expected = (
        "node g367",
        "balance",
        "0.4 ms",
        "8200 tts-master",
        "gateway  seeded",
        "2 of 2",
        "░░",
        "tts-02",
        "drain",
    )
    async with answering(tmp_path, program(gateway=gateway())), watching(tmp_path) as pilot:
        await eventually(pilot, lambda: all(what in screen(pilot) for what in expected))
        seen = screen(pilot)
    assert all(len(line) <= 80 for line in seen.splitlines())


async def test_the_endpoint_under_the_cursor_is_drained_and_enabled(tmp_path: Path) -> None:
    """And what was done is said and seen at once."""
    async with answering(tmp_path, program()) as answers, watching(tmp_path) as pilot:
        await eventually(pilot, lambda: cursor(pilot) == "tts-01")
        await pilot.press("down", "d")
        await eventually(pilot, lambda: "tts-02 gets no new requests" in screen(pilot))
        await pilot.press("e")
        await eventually(pilot, lambda: "tts-02 may have requests again" in screen(pilot))
        assert answers.changes == [("tts-02", {"enabled": False}), ("tts-02", {"enabled": True})]


async def test_a_change_that_is_refused_is_told(tmp_path: Path) -> None:
    """In the program's words; and on a pool's line there is nothing to change."""
    told = program(pools=[pool(endpoint("gone"))])
    async with answering(tmp_path, told) as answers, watching(tmp_path) as pilot:
        await eventually(pilot, lambda: cursor(pilot) == "gone")
        await pilot.press("d")
        await eventually(pilot, lambda: "No endpoint is named gone." in screen(pilot))
        await pilot.press("up", "d")
        await eventually(pilot, lambda: "the cursor is on no endpoint" in screen(pilot))
        assert answers.changes == []


async def test_a_program_that_stops_and_starts_is_watched_on(tmp_path: Path) -> None:
    """It says that none answers, shows what was last seen, and goes on asking."""
    async with watching(tmp_path) as pilot:
        await eventually(pilot, lambda: "no program answers" in screen(pilot))
        await pilot.press("d")
        await eventually(pilot, lambda: "the cursor is on no endpoint" in screen(pilot))
        for version in ("0.1.0", "0.2.0"):
            async with answering(tmp_path, program(version=version)):
                await eventually(pilot, lambda version=version: f"sovren-edge {version}" in screen(pilot))
                assert "no program answers" not in screen(pilot)
            await eventually(pilot, lambda: "no program answers" in screen(pilot))
            assert "tts-01" in screen(pilot)
            assert pilot.app.screen.has_class("-stale")


async def test_what_makes_no_sense_ends_nothing(tmp_path: Path) -> None:
    """Another program may answer there."""
    async with answering(tmp_path, program()) as answers, watching(tmp_path) as pilot:
        await eventually(pilot, lambda: cursor(pilot) is not None)
        for told, said in (({"workers": "many"}, "does not know: workers"), ("good day", "no program answers")):
            answers.told = told
            await eventually(pilot, lambda said=said: said in screen(pilot))
        answers.told = program(version="0.3.0")
        await eventually(pilot, lambda: "sovren-edge 0.3.0" in screen(pilot))


async def test_the_cursor_stays_on_its_endpoint(tmp_path: Path) -> None:
    """Whatever comes and goes around it, however many there are; the head stays in sight."""
    async with answering(tmp_path, many(100)) as answers, watching(tmp_path) as pilot:
        await eventually(pilot, lambda: cursor(pilot) == "tts-000")
        await pilot.press("end")
        await eventually(pilot, lambda: cursor(pilot) == "tts-099" and "tts-099" in screen(pilot))
        assert "fail/s" in screen(pilot)
        answers.told = program(pools=[pool(*(endpoint(f"tts-{number:03}") for number in range(50, 120)))])
        await eventually(pilot, lambda: pilot.app.query_one("#pools", Pane).row_count == 71)
        await eventually(pilot, lambda: cursor(pilot) == "tts-099" and "tts-099" in screen(pilot))
        answers.told = many(3)
        await eventually(pilot, lambda: cursor(pilot) == "tts-000")
        answers.told = program(pools=[])
        await eventually(pilot, lambda: cursor(pilot) is None)


async def test_pools_that_are_away_for_a_moment_cost_no_place(tmp_path: Path) -> None:
    """Their worker was started again: keys go on where they were."""
    async with answering(tmp_path, many(100)) as answers, watching(tmp_path) as pilot:
        await eventually(pilot, lambda: cursor(pilot) == "tts-000")
        await pilot.press(*["pagedown"] * 3)
        chosen = cursor(pilot)
        answers.told = program(pools=[])
        await eventually(pilot, lambda: cursor(pilot) is None)
        answers.told = many(100)
        await eventually(pilot, lambda: cursor(pilot) == chosen and str(chosen) in screen(pilot))
        await pilot.press("down")
        await eventually(pilot, lambda: cursor(pilot) != chosen)


async def test_a_table_that_changes_stays_where_it_was_scrolled_to(tmp_path: Path) -> None:
    """Also when its columns grow, and others join at its end."""
    ports = [port(8000 + number, f"port-{number:02}") for number in range(30)]
    async with answering(tmp_path, program(ports=ports)) as answers, watching(tmp_path) as pilot:
        await eventually(pilot, lambda: "port-00" in screen(pilot))
        await pilot.press("shift+tab", "end")
        await eventually(pilot, lambda: "port-29" in screen(pilot))
        answers.told = program(ports=[{**one, "requests": 10_000_000, "worker": "balance-of-all"} for one in ports])
        await eventually(pilot, lambda: "balance-of-all" in screen(pilot))
        await pilot.pause(0.1)
        assert "port-29" in screen(pilot)
        answers.told = program(ports=[*ports, port(9000, "another")])
        await eventually(pilot, lambda: pilot.app.query_one("#ports", Pane).row_count == 31)
        await eventually(pilot, lambda: "port-29" in screen(pilot))


async def test_names_may_be_there_twice(tmp_path: Path) -> None:
    """Of what is old and what is new."""
    async with answering(tmp_path, program(workers=[worker(), worker(pid=4712)])), watching(tmp_path) as pilot:
        await eventually(pilot, lambda: "4711" in screen(pilot) and "4712" in screen(pilot))


async def test_a_terminal_of_another_size_is_filled(tmp_path: Path) -> None:
    """At once, not at the next look."""
    async with answering(tmp_path, program()) as answers, watching(tmp_path) as pilot:
        await eventually(pilot, lambda: cursor(pilot) is not None)
        looks = answers.looks
        await pilot.resize_terminal(120, 40)
        await eventually(pilot, lambda: "last 5" in screen(pilot) or "last 4" in screen(pilot))
        assert answers.looks <= looks + 1


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_it_ends(tmp_path: Path, key: str) -> None:
    """By its key, and as programs in a terminal do."""
    async with watching(tmp_path) as pilot:
        await pilot.press(key)
        await eventually(pilot, lambda: not pilot.app.is_running)
    assert pilot.app.return_code == 0


async def test_an_answer_that_comes_after_the_end_is_not_shown(tmp_path: Path) -> None:
    """The screen is gone then."""
    async with answering(tmp_path, program()) as answers:
        async with watching(tmp_path) as pilot:
            await eventually(pilot, lambda: cursor(pilot) is not None)
        looks = answers.looks
        await pilot.app._ask()  # type: ignore[attr-defined]  # noqa: SLF001 - as if it was asked just before the end
        assert answers.looks == looks + 1
