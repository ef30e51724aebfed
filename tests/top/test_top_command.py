"""`sovren-edge top --once`, for people and for programs, and what it says where it cannot be watched."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from answering import answering
from click.testing import CliRunner, Result
from program_told import Told, endpoint, gateway, pool, port, program

from sovren_edge.cli import main


async def call(directory: Path, *words: str) -> Result:
    """Call the command beside a program that answers."""
    return await asyncio.to_thread(CliRunner().invoke, main, ["top", "--state-dir", str(directory), *words])


async def test_programs_get_what_the_program_tells(tmp_path: Path) -> None:
    """One JSON object, as it came."""
    told = program(gateway=gateway())
    async with answering(tmp_path, told) as answers:
        result = await call(tmp_path, "--once", "--json")
        assert (result.exit_code, json.loads(result.stdout), result.stderr) == (0, told, "")
        assert answers.looks == 1


async def test_people_get_a_table(tmp_path: Path) -> None:
    """With what happens in a second, and without colours where it is no terminal."""
    told = program(pools=[pool(endpoint(inflight=1))], gateway=gateway())
    async with answering(tmp_path, told) as answers:
        calling = asyncio.create_task(call(tmp_path, "--once"))
        async with asyncio.timeout(30):
            await answers.asked.wait()
        answers.told = {**told, "ports": [port(requests=1304)]}
        result = await calling
    assert result.exit_code == 0
    assert result.stdout.startswith(
        "sovren-edge 0.1.0  node g367  08:00:00 UTC\ngateway  seeded, 12 subscribers, 340 grants, 3 open, "
    )
    assert "\x1b" not in result.stdout
    lines = [line.split() for line in result.stdout.splitlines()]
    (of_port,) = [line for line in lines if "tts-master" in line]
    assert of_port[:6] == ["8200", "tts-master", "balance", "balance", "ready", "3"]
    assert 0 < float(of_port[6]) <= 100
    assert ["tts-01", "ready", "█░", "1/2", "0", "0", "-"] in lines
    assert all(line == line.rstrip() for line in result.stdout.splitlines())


@pytest.mark.parametrize("words", [("--once",), ("--once", "--json")])
async def test_where_no_program_answers_it_fails(tmp_path: Path, words: tuple[str, ...]) -> None:
    """And says how another one is named."""
    result = await call(tmp_path, *words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: no program answers at {tmp_path}")
    assert "--state-dir" in result.stderr


@pytest.mark.parametrize(
    ("told", "said"), [({"workers": "many"}, "what this command does not know: workers"), ("good day", "no program")]
)
async def test_where_another_thing_answers_it_fails(tmp_path: Path, told: Told | str, said: str) -> None:
    """Whatever that is."""
    async with answering(tmp_path, told):
        result = await call(tmp_path, "--once")
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr


@pytest.mark.parametrize(("words", "said"), [((), "this is no terminal"), (("--json",), "--json needs --once")])
async def test_what_makes_no_sense_is_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """Before anything is asked."""
    result = await call(tmp_path, *words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_other_commands_begin_without_the_library_for_terminals() -> None:
    """It takes long to load."""
    loaded = "import sys, sovren_edge.cli; sys.exit(any(name.startswith('textual') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", loaded], check=False, timeout=60).returncode == 0
