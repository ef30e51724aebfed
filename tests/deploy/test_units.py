"""deploy/systemd, by systemd's own judgement of its files. No systemd is ever started here."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import orjson
import pytest
from program import EXECUTABLE, ROOT, run

from sovren_edge.config.load import load_config

UNITS = ROOT / "deploy/systemd"
SERVICE = (UNITS / "sovren-edge.service").read_text(encoding="utf-8")
PROGRAM = "/usr/local/bin/sovren-edge"
ANALYZE = shutil.which("systemd-analyze")
# In tenths: what is left is that it has sockets, and sees (not writes) the host's files.
MOST_EXPOSED = "15"

judged = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


def value(key: str) -> str:
    """Return a setting that stands once."""
    (found,) = re.findall(rf"^{key}=(.*)$", SERVICE, re.MULTILINE)
    return str(found)


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """Copy the units, with the program where it is here."""
    for name in ("sovren-edge.service", "sovren-edge.socket"):
        text = (UNITS / name).read_text(encoding="utf-8").replace(PROGRAM, str(EXECUTABLE))
        (tmp_path / name).write_text(text, encoding="utf-8")
    return sorted(tmp_path.iterdir())


@judged
def test_units_are_sound(units: list[Path]) -> None:
    """Every key is known, every program is there, nothing is said."""
    done = subprocess.run([str(ANALYZE), "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@judged
def test_the_service_is_hardened(units: list[Path]) -> None:
    """By systemd's own measure, from 0 to 10."""
    command = [str(ANALYZE), "security", "--offline=true", f"--threshold={MOST_EXPOSED}", units[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_systemd_waits_longer_than_the_drain() -> None:
    """By ten seconds or more: what is cut is then counted and logged."""
    settings = load_config(ROOT / "config.toml", secrets=None, local=False).edge
    assert int(value("TimeoutStopSec")) >= settings.unready_s + settings.drain_s + 10


def test_the_service_is_started_as_the_program_wants() -> None:
    """Each option is one of its own; its environment has what the command and config.toml name."""
    program, command, *options = shlex.split(value("ExecStart"))
    assert program == PROGRAM
    told = run(command, "--help").stdout
    assert all(option in told for option in options if option.startswith("--"))
    example = (UNITS / "node.env").read_text(encoding="utf-8")
    named = {*re.findall(r"^#?(SOVREN_EDGE_\w+)=", example, re.MULTILINE)}
    secrets = {*re.findall(r'^[a-z_]+ = "env:(\w+)"', (ROOT / "config.toml").read_text(encoding="utf-8"), re.MULTILINE)}
    assert named == {"SOVREN_EDGE_NODE"} | secrets
    assert "${SOVREN_EDGE_NODE}" in options


def test_the_sockets_are_the_ports_of_the_node() -> None:
    """Each as the program binds it, which is how it finds them."""
    listening = re.findall(
        r"^ListenStream=(.*)$", (UNITS / "sovren-edge.socket").read_text(encoding="utf-8"), re.MULTILINE
    )
    bind = load_config(ROOT / "config.toml", secrets=None, local=False).edge.bind
    rows = orjson.loads(run("ports", "--node", "g367", "--json").stdout)
    assert listening == [f"{bind}:{row['port']}" for row in rows if row["node"] == "g367" and row["state"] == "serve"]
