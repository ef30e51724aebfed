"""Owns the OpenAPI 3.1 document of a handler, made from its routes.

Must not know how routes are called, or how the document is shown.
"""

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode, JsonSchemaValue

from sovren_edge.handler.declaration import PLACES, Place
from sovren_edge.handler.route import Route, Routes

_COMPONENTS = "#/components/schemas/"
_Part: TypeAlias = Place | Literal["body", "answer", "problem"]
_Key: TypeAlias = tuple[int, _Part]


class ErrorBody(BaseModel):
    """An error (RFC 9457): `reason` is stable and for machines, `detail` is a sentence for people."""

    type: str
    title: str
    status: int
    detail: str
    reason: str
    error: str
    message: str
    statusCode: int  # noqa: N815 - the name that older clients read
    request_id: str


_PROBLEM_KEY: _Key = (-1, "problem")


def describe(routes: Routes, *, title: str, version: str, description: str = "") -> JsonSchemaValue:
    """Make the document; all schemas that routes share are its components."""
    schemas, components = _schemas(routes)
    names = Counter(route.function.__name__ for route in routes)
    paths: dict[str, JsonSchemaValue] = {}
    for index, route in enumerate(routes):
        operation = _operation(route, {part: schemas[of, part] for of, part in schemas if of == index})
        # Two routes may share a function, but not an id; the id may be left out.
        named = {"operationId": route.function.__name__} if names[route.function.__name__] == 1 else {}
        paths.setdefault(route.path, {})[route.method.lower()] = named | operation
    problem = _response(
        "The request was refused, or failed.", _content(schemas[_PROBLEM_KEY], "application/problem+json")
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version} | ({"description": description} if description else {}),
        "paths": paths,
        "components": {"schemas": components, "responses": {"Problem": problem}},
    }


def _schemas(routes: Routes) -> tuple[dict[_Key, JsonSchemaValue], JsonSchemaValue]:
    """Make the schemas of every route's parts, and the definitions that they refer to."""
    parts = [part for index, route in enumerate(routes) for part in _parts(index, route)]
    parts.append((_PROBLEM_KEY, "serialization", TypeAdapter(ErrorBody)))
    by_mode, shared = TypeAdapter.json_schemas(parts, ref_template=_COMPONENTS + "{model}")
    components: JsonSchemaValue = shared.get("$defs", {})
    schemas = {key: schema for (key, _), schema in by_mode.items()}
    # Parameters are written one by one: the models that check them together are nobody's components.
    together = {key: schema["$ref"].removeprefix(_COMPONENTS) for key, schema in schemas.items() if _is_values(key)}
    schemas |= {key: components[name] for key, name in together.items()}
    components = {name: schema for name, schema in components.items() if name not in together.values()}
    return schemas, components


def _is_values(key: _Key) -> bool:
    return key[1] in PLACES


def _parts(index: int, route: Route) -> Iterator[tuple[_Key, JsonSchemaMode, TypeAdapter[Any]]]:
    declaration = route.declaration
    yield (index, "path"), "validation", TypeAdapter(declaration.path.model)
    yield (index, "query"), "validation", TypeAdapter(declaration.query.model)
    yield (index, "header"), "validation", TypeAdapter(declaration.headers.model)
    if declaration.body is not None:
        yield (index, "body"), "validation", TypeAdapter(declaration.body.model)
    if isinstance(declaration.answer, TypeAdapter):
        yield (index, "answer"), "serialization", declaration.answer


def _operation(route: Route, schemas: Mapping[_Part, JsonSchemaValue]) -> JsonSchemaValue:
    summary, _, description = (inspect.getdoc(route.function) or _spoken(route)).partition("\n")
    operation: JsonSchemaValue = {"summary": summary, "description": description.strip()}
    operation["parameters"] = [one for place in PLACES for one in _parameters(place, schemas[place])]
    operation = {name: value for name, value in operation.items() if value}
    if (body := route.declaration.body) is not None:
        operation["requestBody"] = {"required": body.required, "content": _content(schemas["body"])}
    return operation | {
        "responses": {**_success(route, schemas), "default": {"$ref": "#/components/responses/Problem"}}
    }


def _spoken(route: Route) -> str:
    return route.function.__name__.replace("_", " ").strip().capitalize()


def _parameters(place: Place, schema: JsonSchemaValue) -> Iterator[JsonSchemaValue]:
    required = schema.get("required", [])
    for name, given in schema.get("properties", {}).items():
        described = {"description": given["description"]} if "description" in given else {}
        bare = {key: value for key, value in given.items() if key not in {"title", "description"}}
        yield {"name": name, "in": place, "required": name in required, **described, "schema": bare}


def _success(route: Route, schemas: Mapping[_Part, JsonSchemaValue]) -> JsonSchemaValue:
    media = {media_type: {"schema": {"type": "string"}} for media_type in route.declaration.media_types}
    match route.declaration.answer:
        case "empty":
            return {"204": {"description": "Done; there is no body."}}
        case "stream":
            return {"200": _response("An answer that is not described as JSON.", media)}
        case _:
            whole = {"200": _response("The answer.", {**_content(schemas["answer"]), **media})}
            unchanged = {"304": {"description": "The answer is still the one whose ETag If-None-Match names."}}
            return whole | (unchanged if route.method == "GET" else {})


def _response(description: str, content: JsonSchemaValue) -> JsonSchemaValue:
    return {"description": description} | ({"content": content} if content else {})


def _content(schema: JsonSchemaValue, media_type: str = "application/json") -> JsonSchemaValue:
    return {media_type: {"schema": schema}}
