"""Owns how a function declares what it takes and what it answers, read once from its annotations.

A parameter is, in this order: the request itself (annotated `Request`), the query as it came (`RawQuery`), a header
(with a `Header`), the JSON body (a pydantic model), a part of the path (named in its template), or a query parameter.
Must not know requests: it makes the models that check them.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    NewType,
    TypeAlias,
    TypeGuard,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from aiohttp.web import Request, StreamResponse
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PydanticUndefinedAnnotation,
    PydanticUserError,
    TypeAdapter,
    create_model,
)

from sovren_edge.errors import StartupError
from sovren_edge.handler.annotations import leaves, takes_many, without_metadata

Place: TypeAlias = Literal["path", "query", "header"]
PLACES: tuple[Place, ...] = ("path", "query", "header")
"""Where text comes from, name by name."""
Kind: TypeAlias = Place | Literal["request", "raw", "body"]
Function: TypeAlias = Callable[..., Awaitable[object]]
Answer: TypeAlias = TypeAdapter[Any] | Literal["empty", "stream"]

_Class = TypeVar("_Class")

RawQuery = NewType("RawQuery", bytes)
"""A query that its function reads by itself, byte for byte; described as one text by the parameter's name."""


@dataclass(frozen=True, slots=True)
class Header:
    """Says which header a parameter takes: `Annotated[str | None, Header("Idempotency-Key")] = None`."""

    name: str


class EventStream(StreamResponse):
    """An answer event by event, as browsers read it (WHATWG HTML, 9.2); described by its media type."""

    media_type: ClassVar[str] = "text/event-stream"

    def __init__(self) -> None:
        # The last is nginx's: it is not to gather what should be told at once.
        unkept = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(headers={"Content-Type": self.media_type} | unkept)


# The prefix lets a parameter have a name that a pydantic model's field may not have, such as `json` or `_`.
_PREFIX = "value_"
_VALUES = ConfigDict(extra="forbid", alias_generator=lambda field: field.removeprefix(_PREFIX))
_TEMPLATE = re.compile(r"(/([^{}/]|\{[A-Za-z_]\w*\})*)+", re.ASCII)
_PLACEHOLDER = re.compile(r"\{(\w+)\}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Body:
    """The parameter that takes the JSON body."""

    name: str
    model: type[BaseModel]
    required: bool


@dataclass(frozen=True, slots=True)
class Values:
    """The parameters that take text from one place, by their names there; `many` may be given more than once."""

    model: type[BaseModel]
    names: Sequence[str]
    many: frozenset[str]

    def read(self, given: Mapping[str, object]) -> dict[str, object]:
        """Convert texts to arguments, defaults included; raises pydantic's ValidationError."""
        return {field.removeprefix(_PREFIX): value for field, value in self.model.model_validate(given)}


@dataclass(frozen=True, slots=True)
class Declaration:
    """All that a function's annotations say.

    `request` and `raw_query` are the names of the parameters that take the request itself and its query as it came;
    with the latter, `query` is not checked, and only described. `may_stream` says that instead of the described answer
    a response may be returned as it is; `media_types` are of those whose class tells theirs.
    """

    path: Values
    query: Values
    headers: Values
    body: Body | None
    request: str | None
    raw_query: str | None
    answer: Answer
    may_stream: bool
    media_types: Sequence[str]


def declare(method: str, path: str, function: Function) -> Declaration:
    """Read a function's declaration; StartupError names the route, the function and every fault."""
    name = f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"
    try:
        return _declaration(method, path, function)
    except (ValueError, TypeError, NameError, PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise StartupError(f"route {method} {path}, function {name}: {error}") from error


def _declaration(method: str, path: str, function: Function) -> Declaration:
    if not (inspect.isfunction(function) or inspect.ismethod(function)) or not inspect.iscoroutinefunction(function):
        raise TypeError("a route's function is a function or method made with `async def`")
    hints = _hints(function)
    parameters = inspect.signature(function).parameters
    if faults := "; ".join(_faults(method, path, parameters, hints)):
        raise ValueError(faults)
    placeholders = _PLACEHOLDER.findall(path)
    taken = {name: _kind(name, hints[name], placeholders) for name in parameters}
    chosen = {kind: [parameters[name] for name in taken if taken[name] == kind] for kind in taken.values()}
    return Declaration(
        path=_values(f"{function.__name__} path", chosen.get("path", []), hints),
        query=_values(f"{function.__name__} query", [*chosen.get("query", []), *chosen.get("raw", [])], hints),
        headers=_values(f"{function.__name__} headers", chosen.get("header", []), hints),
        body=next((_body(parameter, hints) for parameter in chosen.get("body", [])), None),
        request=next((parameter.name for parameter in chosen.get("request", [])), None),
        raw_query=next((parameter.name for parameter in chosen.get("raw", [])), None),
        answer=_answer(hints["return"]),
        may_stream=any(_is_a(each, StreamResponse) for each in _choices(hints["return"])),
        media_types=[each.media_type for each in _choices(hints["return"]) if _is_a(each, EventStream)],
    )


def _hints(function: Function) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise NameError(
            f"{error}: an annotation that is text (quoted, or under `from __future__ import annotations`) "
            "may use names of its module alone, imported at run time"
        ) from error


def _kind(name: str, hint: object, placeholders: list[str]) -> Kind:
    annotation = without_metadata(hint)
    if annotation is Request:
        return "request"
    if annotation is RawQuery:
        return "raw"
    if _header(hint) is not None:
        return "header"
    if _is_a(annotation, BaseModel):
        return "body"
    return "path" if name in placeholders else "query"


def _faults(method: str, path: str, parameters: Mapping[str, Parameter], hints: Mapping[str, object]) -> Iterator[str]:
    placeholders = _PLACEHOLDER.findall(path)
    if not _TEMPLATE.fullmatch(path):
        yield "a path begins with / and has parameters as {name} alone"
    for name in sorted({name for name in placeholders if placeholders.count(name) > 1}):
        yield f"the path names {{{name}}} twice"
    for name in placeholders:
        if name not in parameters:
            yield f"the path parameter {name} is not among the function's parameters"
    for name in parameters:
        yield from _parameter_faults(parameters[name], hints, placeholders)
    if "return" not in hints:
        yield "the answer has no annotation (`-> None` answers 204)"
    yield from _kind_faults(method, [_kind(name, hints[name], placeholders) for name in parameters if name in hints])


def _kind_faults(method: str, kinds: Sequence[Kind]) -> Iterator[str]:
    for kind in ("request", "body"):
        if kinds.count(kind) > 1:
            yield f"more than one parameter takes the {kind}"
    if "raw" in kinds and (kinds.count("raw") > 1 or "query" in kinds):
        yield "a query is read either raw, by one parameter, or by its names"
    if method == "GET" and "body" in kinds:
        yield "a GET has no body"


def _parameter_faults(parameter: Parameter, hints: Mapping[str, object], placeholders: list[str]) -> Iterator[str]:
    name = parameter.name
    if parameter.kind not in {Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY}:
        yield f"the parameter {name} cannot be passed by its name"
    elif name not in hints:
        yield f"the parameter {name} has no annotation"
    elif _header(hints[name]) is None and _has_header(hints[name]):
        yield f"the Header of the parameter {name} stands outside: Annotated[str | None, Header(...)]"
    elif (kind := _kind(name, hints[name], placeholders)) not in {"path", "query"} and name in placeholders:
        yield f"the path parameter {name} cannot take the {kind}"
    elif kind in PLACES and any(issubclass(leaf, BaseModel | Mapping) for leaf in leaves(hints[name])):
        yield f"the parameter {name} cannot be read from text (a body is one model, or a RootModel of something else)"
    elif kind == "path" and parameter.default is not Parameter.empty:
        yield f"the path parameter {name} has a default, which would never be used"
    elif kind == "header" and takes_many(hints[name]):
        yield f"the parameter {name} takes a header, which is one text"


def _header(hint: object) -> Header | None:
    return next((each for each in get_args(hint)[1:] if isinstance(each, Header)), None)


def _has_header(hint: object) -> bool:
    return hint is Header or isinstance(hint, Header) or any(map(_has_header, get_args(hint)))


def _values(title: str, parameters: list[Parameter], hints: Mapping[str, Any]) -> Values:
    fields: dict[str, Any] = {
        _PREFIX + each.name: (_as_text(hints[each.name]), ... if each.default is Parameter.empty else each.default)
        for each in parameters
    }
    model = create_model(title, __config__=_VALUES, **fields)
    named = {field.alias or name: field for name, field in model.model_fields.items()}
    return Values(model, list(named), frozenset(name for name in named if takes_many(named[name].annotation)))


def _as_text(hint: Any) -> Any:  # noqa: ANN401 - an annotation may be anything at all
    if (header := _header(hint)) is not None:
        return Annotated[hint, Field(alias=header.name)]
    if without_metadata(hint) is not RawQuery:
        return hint
    return Annotated[str, *get_args(hint)[1:]] if get_origin(hint) is Annotated else str


def _body(parameter: Parameter, hints: Mapping[str, Any]) -> Body:
    return Body(parameter.name, without_metadata(hints[parameter.name]), parameter.default is Parameter.empty)


def _answer(hint: Any) -> Answer:  # noqa: ANN401 - an annotation may be anything at all
    annotation = without_metadata(hint)
    if annotation is NoneType:
        return "empty"
    choices = _choices(annotation)
    described: Any = tuple(choice for choice in choices if not _is_a(choice, StreamResponse))
    if not described:
        return "stream"
    return TypeAdapter(hint if len(described) == len(choices) else Union[described])  # noqa: UP007 - made at run time


def _choices(hint: Any) -> tuple[Any, ...]:  # noqa: ANN401 - an annotation may be anything at all
    return get_args(hint) if get_origin(hint) in {Union, UnionType} else (without_metadata(hint),)


def _is_a(hint: object, kind: type[_Class]) -> TypeGuard[type[_Class]]:
    return isinstance(hint, type) and issubclass(hint, kind)
