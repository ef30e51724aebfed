"""Packs the launcher and the program's folder into one file; launcher.c tells how that is unpacked.

Two packs of equal folders are equal, byte for byte.
"""

import gzip
import stat
import sys
from io import BufferedWriter
from pathlib import Path

_MARK = b"edgepack"
_LEVEL = 6


def pack(launcher: Path, folder: Path, packed: Path) -> None:
    """Write the one file: the launcher, the folder as a gzip stream, and a tail that says where that begins."""
    with packed.open("wb") as file:
        begin = file.write(launcher.read_bytes())
        _write_folder(folder, file)
        file.write(_MARK + begin.to_bytes(8, "little"))
    packed.chmod(0o755)


def _write_folder(folder: Path, file: BufferedWriter) -> None:
    with gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as stream:
        for path in sorted(folder.rglob("*")):
            mode, data = _read(path)
            stream.write(f"{mode:o} {len(data)} {path.relative_to(folder)}\n".encode())
            stream.write(data)


def _read(path: Path) -> tuple[int, bytes]:
    if path.is_symlink():
        return stat.S_IFLNK | 0o777, bytes(path.readlink())
    if path.is_dir():
        return stat.S_IFDIR | 0o700, b""
    return stat.S_IFREG | (0o700 if path.stat().st_mode & 0o100 else 0o600), path.read_bytes()


if __name__ == "__main__":
    pack(*map(Path, sys.argv[1:]))
