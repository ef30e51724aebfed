"""What a function's annotations declare, and which declarations are refused when the route is made."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from sovren_edge.handler import Header, RawQuery, Request, Response, StartupError, StreamResponse, route


class Item(BaseModel):
    """A body."""

    size: int


class Opaque:
    """A class that no text can become."""


async def everything(
    request: Request,
    body: Item,
    shelf: int,
    tags: list[str],
    since: Annotated[str | None, Field(alias="from")] = None,
    *,
    json: bool = False,
) -> Item:
    """Take something from everywhere."""
    raise NotImplementedError(request, body, shelf, tags, since, json)


def test_parameters_are_told_apart_by_annotation_and_template() -> None:
    """The request and the body by their types, the path by its template, the query by being left over."""
    declaration = route.post("/shelves/{shelf}", everything).declaration
    assert declaration.request == "request"
    assert declaration.body is not None
    assert (declaration.body.name, declaration.body.model, declaration.body.required) == ("body", Item, True)
    assert declaration.path.read({"shelf": "7"}) == {"shelf": 7}
    assert declaration.query.many == {"tags"}
    assert declaration.query.read({"tags": ["a"], "from": "x"}) == {"tags": ["a"], "since": "x", "json": False}


def test_headers_are_taken_by_their_own_names() -> None:
    """Converted and limited as all texts are."""

    async def conditional(
        since: Annotated[int, Header("X-Since"), Field(ge=1)] = 1,
        tag: Annotated[str | None, Header("X-Tag")] = None,
    ) -> None: ...

    headers = route.get("/", conditional).declaration.headers
    assert headers.names == ["X-Since", "X-Tag"]
    assert headers.read({"X-Since": "7", "X-Tag": "a"}) == {"since": 7, "tag": "a"}
    assert headers.read({}) == {"since": 1, "tag": None}
    with pytest.raises(ValidationError):
        headers.read({"X-Since": "0"})


def test_a_query_can_be_taken_as_it_came() -> None:
    """Its parameter's name is for the description; then there are no others."""

    async def raw(url: Annotated[RawQuery, Field(description="Where to.")]) -> None: ...
    async def bare(url: RawQuery) -> None: ...
    async def both(url: RawQuery, limit: int) -> None: ...

    declaration = route.post("/", raw).declaration
    assert declaration.raw_query == "url"
    assert declaration.query.model.model_json_schema()["properties"] == {
        "url": {"description": "Where to.", "title": "Url", "type": "string"}
    }
    assert route.post("/", bare).declaration.raw_query == "url"
    with pytest.raises(StartupError, match="a query is read either raw, by one parameter, or by its names"):
        route.post("/", both)


def test_answers_are_json_empty_or_streams() -> None:
    """The return annotation decides."""

    async def nothing() -> None: ...
    async def stream() -> StreamResponse:
        return StreamResponse()

    async def whole() -> Response:
        return Response()

    async def listed() -> list[Item]:
        return []

    answers = [route.get("/", function).declaration.answer for function in (nothing, stream, whole, listed)]
    assert answers[:3] == ["empty", "stream", "stream"]
    assert isinstance(answers[3], TypeAdapter)


def test_bound_methods_are_functions_too() -> None:
    """`self` is nobody's parameter."""

    class Desk:
        async def ask(self, name: str) -> str:
            return name

    assert route.get("/ask", Desk().ask).declaration.query.read({"name": "x"}) == {"name": "x"}


async def _bare(name) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001 - the fault under test
async def _silent(name: str): ...  # type: ignore[no-untyped-def]  # noqa: ANN202 - the fault under test
async def _two_bodies(one: Item, two: Item) -> None: ...
async def _two_requests(one: Request, two: Request) -> None: ...
async def _named(name: str) -> None: ...
async def _defaulted(name: str = "x") -> None: ...
async def _body(name: Item) -> None: ...
async def _list_of_bodies(items: list[Item]) -> None: ...
async def _anything(values: dict[str, str]) -> None: ...
async def _headed(name: Annotated[str, Header("X-Name")]) -> None: ...
async def _inner(name: Annotated[str, Header("X-Name")] | None) -> None: ...
async def _unnamed(name: Annotated[str, Header]) -> None: ...
async def _tags(tags: Annotated[list[str], Header("X-Tag")]) -> None: ...
async def _pairs(values: Annotated[dict[str, str], Header("X-Values")]) -> None: ...
async def _gathering(**values: str) -> None: ...
async def _positional(name: str, /) -> None: ...
async def _unresolved(name: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821 - the fault under test
async def _opaque(name: Opaque) -> None: ...
async def _opaque_answer() -> Opaque: ...  # type: ignore[empty-body]
def _sync() -> None: ...


@pytest.mark.parametrize(
    ("make", "path", "function", "fault"),
    [
        (route.get, "/", _bare, "the parameter name has no annotation"),
        (route.get, "/", _silent, "the answer has no annotation"),
        (route.post, "/", _two_bodies, "more than one parameter takes the body"),
        (route.get, "/", _two_requests, "more than one parameter takes the request"),
        (route.get, "/{nome}", _named, "the path parameter nome is not among"),
        (route.get, "/{name}/{name}", _named, "the path names {name} twice"),
        (route.get, "/{name:.*}", _named, "a path begins with /"),
        (route.get, "name", _named, "a path begins with /"),
        (route.get, "/{name}", _defaulted, "the path parameter name has a default"),
        (route.get, "/", _body, "a GET has no body"),
        (route.post, "/{name}", _body, "the path parameter name cannot take the body"),
        (route.post, "/", _list_of_bodies, "the parameter items cannot be read from text"),
        (route.get, "/", _anything, "the parameter values cannot be read from text"),
        (route.get, "/{name}", _headed, "the path parameter name cannot take the header"),
        (route.get, "/", _inner, "the Header of the parameter name stands outside"),
        (route.get, "/", _unnamed, "the Header of the parameter name stands outside"),
        (route.get, "/", _tags, "the parameter tags takes a header, which is one text"),
        (route.get, "/", _pairs, "the parameter values cannot be read from text"),
        (route.get, "/", _gathering, "the parameter values cannot be passed by its name"),
        (route.get, "/", _positional, "the parameter name cannot be passed by its name"),
        (route.get, "/", _unresolved, "name 'Nowhere' is not defined"),
        (route.get, "/", _opaque, "Unable to generate pydantic-core schema"),
        (route.get, "/", _opaque_answer, "Unable to generate pydantic-core schema"),
        (route.get, "/", _sync, "made with `async def`"),
        (route.get, "/", print, "made with `async def`"),
    ],
)
def test_a_faulty_declaration_is_refused_by_name(
    make: Callable[[str, Callable[..., Awaitable[object]]], object],
    path: str,
    function: Callable[..., Awaitable[object]],
    fault: str,
) -> None:
    """The fault is found when the route is made, and names the route and the function."""
    with pytest.raises(StartupError) as raised:
        make(path, function)
    assert fault in str(raised.value)
    assert function.__qualname__ in str(raised.value)
    assert path in str(raised.value)


def test_all_faults_of_a_declaration_are_told_at_once() -> None:
    """Nobody should have to start the program once for each."""
    with pytest.raises(StartupError, match=r"path parameter id .*; the parameter name has no annotation"):
        route.get("/{id}", _bare)
