"""Owns the translation of pydantic's findings into faults.

Must not show a secret's value, nor the value of a key that the model does not know: it may be a misspelt secret.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sovren_edge.config.fault import Fault, nearest, one_of
from sovren_edge.config.places import Key, keys_at, secret_at

_USERINFO = re.compile(r"://[^/@\s]*@")
_SHOWN_LENGTH = 80


def faults_of(error: ValidationError, root: type[BaseModel], raw: object, prefix: str = "") -> Iterator[Fault]:
    """Yield one fault for each finding; `raw` is what was validated, `prefix` the path of `root` in the file."""
    for details in error.errors(include_url=False):
        keys = [prefix, *_written(details["loc"], raw, missing=details["type"] == "missing")]
        if details["type"].startswith("union_tag"):
            keys.append("kind")
        yield Fault(".".join(str(key) for key in keys if key != ""), *_explain(details, root))


def show(value: object) -> str:
    """Show a value that is no secret, as TOML would, in one short line; a URL without its user and password."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case Mapping():
            return f"a table of {', '.join(map(str, value))}" if value else "an empty table"
        case list():
            return "a list" if value else "an empty list"
        case str():
            text = f'"{_USERINFO.sub("://***@", value)}"'
        case _:
            text = str(value)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}..."


def _explain(details: ErrorDetails, root: type[BaseModel]) -> tuple[str, str, str]:
    """Return what was found, what was expected, and a hint."""
    loc, context = details["loc"], details.get("ctx", {})
    expected = details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    match details["type"]:
        case "extra_forbidden":
            keys = keys_at(root, loc[:-1])
            return "an unknown key", one_of(keys), nearest(str(loc[-1]), keys)
        case "missing" | "union_tag_not_found":
            return "nothing", "a value: this key is required", ""
        case "union_tag_invalid" | "literal_error":
            found = context.get("tag", details["input"])
            words = re.findall(r"'([^']*)'", str(context.get("expected_tags", context.get("expected"))))
            return show(found), one_of(map(show, words)), nearest(str(found), words)
        case _ if secret_at(root, loc):
            return _reference(details["input"]), "a secret that can be read", expected
        case "string_pattern_mismatch":
            found = "this name" if loc[-1] == "[key]" else show(details["input"])
            return found, f"text of the pattern {context['pattern']}", ""
        case _:
            return show(details["input"]), expected, nearest(str(details["input"]), context.get("known", ()))


def _written(loc: Sequence[Key], raw: object, *, missing: bool) -> Iterator[Key]:
    """Yield the keys of a location that stand in the file; pydantic adds the names of union members."""
    tagged = False
    for place, key in enumerate(loc):
        inner = _item(raw, key)
        # The tag comes first, and may be spelt as a key beside it: a listener of kind `handler` has a `handler`.
        if isinstance(raw, Mapping) and raw.get("kind") == key and not tagged:
            tagged = True
        elif inner is not None:
            yield key
            raw = inner
        elif missing and place == len(loc) - 1:
            yield key


def _item(raw: object, key: Key) -> object:
    """Return what stands at `key` of a table or a list; TOML has no null, so None says nothing does."""
    if isinstance(raw, Mapping):
        return raw.get(key)
    return raw[key] if isinstance(raw, list) and isinstance(key, int) and key < len(raw) else None


def _reference(value: object) -> str:
    is_reference = isinstance(value, str) and value.startswith(("env:", "file:"))
    return show(value) if is_reference else "a value that is not shown"
