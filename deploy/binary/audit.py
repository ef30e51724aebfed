"""Asks the package index which vulnerabilities are known in what a node needs (locks/edge.txt); one found is a failure.

Not every index answers such questions: then nothing was audited, and this says so.
"""

import subprocess
import sys
from pathlib import Path

import orjson

_LOCK = Path(__file__).parents[2] / "locks" / "edge.txt"
_WAIT_S = "15"
_LONGEST_S = 120


def main(tool: str) -> int:
    """Ask, tell, and return the exit status."""
    options = ["--disable-pip", "--no-deps", "--require-hashes", "--progress-spinner", "off", "--timeout", _WAIT_S]
    command = [tool, *options, "--format", "json", "--requirement", _LOCK]
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=_LONGEST_S)
        asked = orjson.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, orjson.JSONDecodeError):
        print("NOT AUDITED: the package index does not answer about known vulnerabilities")
        return 0
    found = [(one["name"], one["version"], flaw["id"]) for one in asked for flaw in one.get("vulns", ())]
    for name, version, flaw in found:
        print(f"{name} {version} has a known vulnerability: {flaw}")
    unknown = [one["name"] for one in asked if "skip_reason" in one]
    if unknown:
        print(f"NOT AUDITED: the package index tells nothing of {len(unknown)} of {len(asked)} distributions")
    if not found and len(unknown) < len(asked):
        print(f"no known vulnerability in {len(asked) - len(unknown)} distributions")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
