"""deploy/logrotate, by the real logrotate."""

import gzip
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from logging_process import LoggingProcess, spoken
from program import until

CONFIGURATION = Path(__file__).resolve().parents[2] / "deploy/logrotate/sovren-edge"
LOGROTATE = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
FOLDER = "/var/log/sovren-edge"

pytestmark = pytest.mark.skipif(LOGROTATE is None, reason="logrotate is not installed")


@pytest.fixture
def rotate(tmp_path: Path) -> Callable[[int], str]:
    """Rotate the logs in `tmp_path / "logs"` as shipped; systemd is one that signals a given process."""
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(
        '#!/bin/sh\ncase "$*" in\n'
        '"--quiet is-active sovren-edge.service") exec kill -0 "$MAINPID" ;;\n'
        '"kill --kill-who=main --signal=USR1 sovren-edge.service") exec kill -USR1 "$MAINPID" ;;\n'
        "esac\nexit 9\n",
        encoding="utf-8",
    )
    systemctl.chmod(0o755)
    shipped = CONFIGURATION.read_text(encoding="utf-8")
    assert FOLDER in shipped
    (tmp_path / "logs").mkdir(mode=0o750)
    configuration = tmp_path / "logrotate.conf"
    configuration.write_text(shipped.replace(FOLDER, str(tmp_path / "logs")), encoding="utf-8")
    configuration.chmod(0o644)

    def run(pid: int) -> str:
        environ = {**os.environ, "PATH": f"{systemctl.parent}:{os.environ['PATH']}", "MAINPID": str(pid)}
        command = [str(LOGROTATE), "--verbose", "--force", "--state", tmp_path / "state", configuration]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stderr

    return run


def test_rotated_logs_are_whole(tmp_path: Path, rotate: Callable[[int], str]) -> None:
    """No line is lost; the program makes each new file itself, and the second oldest is compressed."""
    path = tmp_path / "logs" / "edge.log"
    one = LoggingProcess(path, "one")
    for _ in range(3):
        one.tell("put", 1000)
        until(path.exists)
        until(path.read_bytes)
        rotate(one.process.pid)
        until(path.exists)
    one.tell("put", 10)
    assert one.end() == 0
    for compressed in path.parent.glob("*.gz"):
        compressed.with_suffix("").write_bytes(gzip.decompress(compressed.read_bytes()))
    assert len([*path.parent.glob("*.gz")]) == 2
    assert spoken(*(path.with_name(f"edge.log{end}") for end in (".3", ".2", ".1", ""))) == {"one": [*range(1, 3011)]}
    assert path.stat().st_mode & 0o777 == 0o640


def test_logs_of_a_program_that_does_not_run_are_rotated(tmp_path: Path, rotate: Callable[[int], str]) -> None:
    """Nobody is signalled, and nothing fails."""
    path = tmp_path / "logs" / "edge.log"
    one = LoggingProcess(path, "one")
    one.tell("put", 3)
    one.end()
    rotate(one.process.pid)
    assert spoken(path.with_name("edge.log.1")) == {"one": [1, 2, 3]}
    assert not path.exists()
