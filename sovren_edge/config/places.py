"""Owns which settings stand where in a pydantic model: the keys of a table, and whether a value is secret.

Must not know any particular model.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

Key = str | int


def keys_at(root: type[BaseModel], loc: Sequence[Key]) -> frozenset[str]:
    """Return the keys that the table at `loc` may have."""
    return frozenset(key for place in _places(root, loc) for model in _models(place) for key in _fields(model))


def secret_at(root: type[BaseModel], loc: Sequence[Key]) -> bool:
    """Tell whether the value at `loc` may be a secret, or a collection of them."""
    return any(map(_holds_secret, _places(root, loc)))


def _places(root: type[BaseModel], loc: Sequence[Key]) -> tuple[object, ...]:
    """Return what may stand at `loc`; a step that leads nowhere is pydantic's name for a member of a union."""
    places: tuple[object, ...] = (root,)
    for key in loc:
        inside = tuple(inner for place in places for choice in _choices(place) for inner in _inside(choice, key))
        places = inside or places
    return places


def _choices(annotation: object) -> Iterator[object]:
    """Look through `Annotated` and unions."""
    if get_origin(annotation) is Annotated:
        yield from _choices(get_args(annotation)[0])
    elif get_origin(annotation) in {None, dict, tuple, list, set, frozenset, Literal}:
        yield annotation
    else:
        for choice in get_args(annotation):
            yield from _choices(choice)


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    for choice in _choices(annotation):
        if isinstance(choice, type) and issubclass(choice, BaseModel):
            yield choice


def _inside(choice: object, key: Key) -> Iterator[object]:
    if isinstance(choice, type) and issubclass(choice, BaseModel):
        fields = _fields(choice)
        # pydantic's locations name the chosen member of a tagged union beside the keys.
        if any(get_args(field.annotation) == (key,) for field in fields.values() if field.is_required()):
            yield choice
        elif key in fields:
            yield fields[str(key)].annotation
    elif get_origin(choice) is dict:
        yield get_args(choice)[1]
    elif get_origin(choice) in {tuple, list, set, frozenset}:
        yield get_args(choice)[0]


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _holds_secret(annotation: object) -> bool:
    if annotation is SecretStr or annotation is SecretBytes:
        return True
    return any(map(_holds_secret, get_args(annotation)))
