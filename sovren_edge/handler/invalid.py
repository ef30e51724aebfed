"""Owns the sentence that tells a caller what is wrong with a request.

Names the places and the expectations, never the values: they may be secret, and they may be large.
"""

from collections.abc import Sequence

from pydantic import ValidationError

from sovren_edge.errors import EdgeError, Side

_MOST_FAULTS = 20
_LONGEST_NAME = 64
# The library's own messages of these kinds repeat what the caller sent.
_MESSAGES = {
    "union_tag_invalid": "Input should have one of the expected tags",
    "uuid_parsing": "Input should be a valid UUID",
}


def faults(place: str, error: ValidationError) -> list[str]:
    """Say each fault with its place, as `query.limit: Input should be a valid integer`."""
    return [
        f"{name((place, *each['loc']))}: {_MESSAGES.get(each['type'], each['msg'])}"
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def name(place: Sequence[str | int]) -> str:
    """Write a place with dots; a caller's long names are cut."""
    return ".".join(str(part)[:_LONGEST_NAME] for part in place)


def invalid(found: Sequence[str]) -> EdgeError:
    """Make the one error of a request with faults."""
    said = [*found[:_MOST_FAULTS]]
    if len(found) > _MOST_FAULTS:
        said.append(f"and {len(found) - _MOST_FAULTS} more")
    return EdgeError(400, "invalid_request", "; ".join(said), side=Side.CALLER)
