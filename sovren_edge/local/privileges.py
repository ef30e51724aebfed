"""Owns how a PostgreSQL program is run: never as root, and never longer than its parent.

Must not know PostgreSQL beyond its refusal of uid 0. As root, the programs run as the owner of the data, who may search
every directory but owns none of them: nothing outside the data changes its mode or owner.
"""

import os
import pwd
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from sovren_edge.errors import StartupError

_NOBODY = 65534
# In order of preference; containers often grant only the second. The numbers are the kernel's.
_SEARCH_CAPABILITIES = (("dac_read_search", 2), ("dac_override", 1))


@dataclass(frozen=True, slots=True)
class Servant:
    """Who runs a program: `prefix` stands before its command; `uid` and `gid` own its data, None is ourselves."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None

    def make_private(self, path: Path) -> None:
        """Make a directory that only the servant can use, or make an existing one so."""
        path.mkdir(mode=0o700, exist_ok=True)
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)
        path.chmod(0o700)


def find_servant(data_dir: Path) -> Servant:
    """Return who may run PostgreSQL over this directory; StartupError if we are root and cannot be anyone else."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    if os.geteuid() != 0:
        return Servant((setpriv, "--pdeathsig", "INT") if setpriv else ())
    if setpriv is None:
        raise StartupError(
            "PostgreSQL does not run as root, and setpriv (package util-linux), which would run it as another user, is "
            "missing: install it, or start as an ordinary user"
        )
    uid, gid = _owner(data_dir)
    return Servant((setpriv, *_become(uid, gid), "--pdeathsig", "INT"), uid, gid)


def _owner(data_dir: Path) -> tuple[int, int]:
    if data_dir.exists() and (status := data_dir.stat()).st_uid != 0:
        return status.st_uid, status.st_gid
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return _NOBODY, _NOBODY
    return nobody.pw_uid, nobody.pw_gid


def _become(uid: int, gid: int) -> tuple[str, ...]:
    identity = ("--reuid", str(uid), "--regid", str(gid), "--clear-groups")
    capability = next((name for name, bit in _SEARCH_CAPABILITIES if _held_capabilities() >> bit & 1), None)
    if capability is None:
        return identity
    # PostgreSQL asks access(2) about its own files, which forgets capabilities unless no_setuid_fixup is set.
    granted = f"-all,+{capability}"
    return (*identity, "--securebits", "+no_setuid_fixup", "--inh-caps", granted, "--ambient-caps", granted)


def _held_capabilities() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0)
