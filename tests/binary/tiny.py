"""A root that holds Debian's libc6 and zlib1g and a /tmp, no more, and the one file in it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ONE_FILE = ROOT / "dist" / "sovren-edge"
PACKAGES = ("libc6", "zlib1g")
# The root is read, the folder behind its /tmp is written; `exec` keeps the process that the test knows.
ENTER = """
mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && mount --bind "$1" "$0/tmp" && shift && exec chroot "$0" "$@"
"""


def unpacked(target: Path) -> str:
    """Unpack the packages; return what was in the way."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("dpkg-deb") or not shutil.which("unshare"):
        return "a root of its own takes Linux, Debian's tools and root"
    packages = target.parent / "packages"
    packages.mkdir()
    for package in PACKAGES:
        # apt gives the download to a user of its own where that user may write; here it need not.
        command = ["apt-get", "-o", "APT::Sandbox::User=root", "download", package]
        if subprocess.run(command, cwd=packages, capture_output=True, check=False).returncode:
            return f"{package} cannot be downloaded: apt-get update"
    for package in packages.iterdir():
        subprocess.run([shutil.which("dpkg-deb") or "", "-x", package, target], check=True)
    return ""


@dataclass(frozen=True)
class Tiny:
    """The root, and the folder that is its /tmp."""

    root: Path
    tmp: Path

    def command(self, *arguments: str) -> list[str | Path]:
        """Return the command that runs the one file in it, with an environment that is empty."""
        inside = ["/opt/sovren-edge", *arguments]
        return [
            "env",
            "-i",
            shutil.which("unshare") or "",
            "--mount",
            "/bin/sh",
            "-c",
            ENTER,
            self.root,
            self.tmp,
            *inside,
        ]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=60, check=False)

    def folders(self) -> list[Path]:
        """Return what the one file has unpacked and not yet removed."""
        return list(self.tmp.glob("sovren-edge-run-*"))


def make(folder: Path) -> Tiny:
    """Make it; the test is skipped, and says why, where that cannot be."""
    if not ONE_FILE.exists():
        pytest.skip("dist/sovren-edge is not built: make binary")
    tiny = Tiny(folder / "root", folder / "tmp")
    tiny.root.mkdir()
    tiny.tmp.mkdir()
    (tiny.root / "tmp").mkdir()
    missing = unpacked(tiny.root)
    if missing:
        pytest.skip(missing)
    (tiny.root / "opt").mkdir()
    shutil.copy2(ONE_FILE, tiny.root / "opt")
    if subprocess.run(tiny.command("--version"), capture_output=True, check=False).returncode:
        said = tiny.run("--version").stderr
        if "unshare" in said or "mount" in said:
            pytest.skip(f"this machine permits no root of one's own: {said.strip()}")
    return tiny


def install(distribution: str, module: str, target: Sequence[str | Path], entry: str) -> None:
    """Write a distribution with one module and one entry point, as pip install --target does."""
    folder = Path(*target)
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{distribution}.py").write_text(module, encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[sovren_edge.handlers]\n{entry}\n", encoding="utf-8")
