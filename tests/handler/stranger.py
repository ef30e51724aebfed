"""Installs tests/stranger as anyone would install a handler of their own, but without a network."""

import subprocess
import sys
from pathlib import Path

STRANGER = Path(__file__).resolve().parents[1] / "stranger"


def install_greeter(target: Path) -> None:
    """Build the distribution and install it in a directory, which then serves as an entry of PYTHONPATH."""
    options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", target, STRANGER], check=True, timeout=60
    )
