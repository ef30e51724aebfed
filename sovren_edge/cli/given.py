"""Owns reading secrets from whoever runs a command: typed without an echo, or from standard input, never as arguments.

Must not know where they are stored. No error shows what was given.
"""

import re
import sys

import click
import orjson

from sovren_edge.errors import StartupError

LONGEST = 16_384
# Without a space at either end: a line's end that was copied along is no part of a secret.
_VALUE = re.compile(rf"[!-~](?:[ -~]{{0,{LONGEST - 2}}}[!-~])?")


def read_value(name: str) -> str:
    """Return the value of a field, as it is sent."""
    given = _typed(f"Value of {name}") if sys.stdin.isatty() else _piped().strip("\r\n")
    return _checked("the value", given)


def read_members(*names: str) -> dict[str, str]:
    """Return secrets by their names, of a JSON object where they are not typed; any may be missing or empty."""
    if sys.stdin.isatty():
        given: object = {name: _typed(f"{name.replace('_', ' ').capitalize()} (empty: none)") for name in names}
    else:
        given = _json(_piped())
    if not isinstance(given, dict) or not given.keys() <= set(names):
        raise StartupError(f"standard input must be a JSON object with nothing but {' and '.join(names)}")
    return {name: _checked(name, value) for name, value in given.items() if value != ""}


def _typed(prompt: str) -> str:
    return str(click.prompt(prompt, hide_input=True, default="", show_default=False))


def _piped() -> str:
    return sys.stdin.buffer.read(2 * LONGEST + 1024).decode("utf-8", "replace")


def _json(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _checked(name: str, value: object) -> str:
    if not isinstance(value, str) or _VALUE.fullmatch(value) is None:
        raise StartupError(f"{name} must be 1 to {LONGEST} printable ASCII characters, without space around them")
    return value
