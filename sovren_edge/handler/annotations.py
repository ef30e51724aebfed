"""Owns questions about type annotations that `typing` has no answer to.

Must not know what an annotation is used for.
"""

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

_COLLECTIONS = (list, set, frozenset, tuple)


def without_metadata(annotation: Any) -> Any:  # noqa: ANN401 - an annotation may be anything at all
    """Return the type within `Annotated`, or the annotation itself."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def takes_many(annotation: object) -> bool:
    """Tell whether a collection of values fits, also as one choice of a union."""
    bare = without_metadata(annotation)
    if get_origin(bare) in {Union, UnionType}:
        return any(takes_many(choice) for choice in get_args(bare))
    return (get_origin(bare) or bare) in _COLLECTIONS


def leaves(annotation: object) -> Iterator[type]:
    """Yield every class that an annotation is made of."""
    bare = without_metadata(annotation)
    origin = get_origin(bare)
    if isinstance(origin or bare, type):
        yield origin or bare
    for argument in get_args(bare):
        yield from leaves(argument)
