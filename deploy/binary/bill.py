"""Writes the one-file program's bill of materials (CycloneDX): what lies in its folder, and where that came from.

Arguments: the folder, what PyInstaller says it collected, the environment that it collected from, the file to write.
"""

import ast
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson

_ROOT = Path(__file__).parents[2]


def main(folder: Path, collected: Path, environment: Path, written: Path) -> None:
    """Write the bill."""
    bill = _bill_of(environment)
    inside = {_plain(path.name.partition("-")[0]) for path in folder.glob("_internal/*.dist-info")}
    inside -= {bill["metadata"]["component"]["name"]}
    bill["components"] = [one for one in bill["components"] if _plain(one["name"]) in inside]
    kept = {one["bom-ref"] for one in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    bill["dependencies"] = [
        {**one, "dependsOn": [ref for ref in one.get("dependsOn", []) if ref in kept]}
        for one in bill["dependencies"]
        if one["ref"] in kept
    ]
    bill["components"] += [_component("python", platform.python_version(), "generic"), *_system(collected)]
    written.write_bytes(orjson.dumps(bill, option=orjson.OPT_INDENT_2))


def _bill_of(environment: Path) -> dict[str, list[dict[str, str]]]:
    tool = environment / "bin" / "cyclonedx-py"
    options = ["--pyproject", _ROOT / "pyproject.toml", "--mc-type", "application", "--output-reproducible"]
    done = subprocess.run([tool, "environment", *options, environment], check=True, stdout=subprocess.PIPE)
    return orjson.loads(done.stdout)


def _system(collected: Path) -> Iterator[dict[str, str]]:
    """Yield the system's packages from which libraries were taken, where dpkg knows them."""
    found = ast.literal_eval(collected.read_text(encoding="utf-8"))[0]
    paths = {Path(source).resolve() for _, source, kind in found if kind == "BINARY"}
    for owner in sorted(set(_owners(path for path in paths if path.is_relative_to("/usr/lib")))):
        version = _said("dpkg-query", "-W", "-f", "${Version}", owner)
        yield _component(owner.partition(":")[0], version, "deb/debian")


def _owners(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        # Some packages name their files as they lay before /lib became a link.
        said = _said("dpkg-query", "-S", str(path)) or _said("dpkg-query", "-S", str(path).removeprefix("/usr"))
        if said:
            yield said.split(": ")[0]


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    except FileNotFoundError:
        return ""


def _component(name: str, version: str, kind: str) -> dict[str, str]:
    purl = f"pkg:{kind}/{name}@{version}"
    return {"bom-ref": purl, "type": "library", "name": name, "version": version, "purl": purl}


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
