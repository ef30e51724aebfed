"""The OpenAPI document that routes make, and the page that shows it."""

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Annotated, Any

from pydantic import BaseModel, Field

from sovren_edge.handler import EventStream, Request, Route, StreamResponse, route
from tests.handler.witness import Serve


class Leaf(BaseModel):
    """A model that contains itself."""

    title: str = "<b>bold</b>"
    leaves: list["Leaf"] = []


class Tree(BaseModel):
    """An answer that shares a model with a body."""

    root: Leaf


async def grow(
    tree: str,
    leaf: Leaf,
    height: Annotated[int, Field(ge=1, description="In <metres>.")] = 3,
    since: Annotated[str | None, Field(alias="from")] = None,
) -> Tree:
    """Grow a <tree>.

    It takes years.
    """
    raise NotImplementedError(tree, leaf, height, since)


async def _fell_it() -> None:
    raise NotImplementedError


async def watch(_request: Request) -> StreamResponse:
    """Watch it."""
    raise NotImplementedError


ROUTES: list[Route] = [
    route.post("/trees/{tree}", grow),
    route.delete("/trees", _fell_it),
    route.get("/trees", watch),
    route.get("/watch", watch),
]


async def _document(serve: Serve) -> dict[str, Any]:
    client = await serve(ROUTES, title="Wood & <Co>", version="2.1", description="Trees.\n\nMany <trees>.")
    async with client.get("/openapi.json") as response:
        assert response.headers["Content-Type"] == "application/json"
        document: dict[str, Any] = await response.json()
        return document


async def test_operations_are_described_by_their_functions(serve: Serve) -> None:
    """Names, parameters, bodies and answers come from the signatures and docstrings."""
    document = await _document(serve)
    assert document["openapi"] == "3.1.0"
    assert document["info"] == {"title": "Wood & <Co>", "version": "2.1", "description": "Trees.\n\nMany <trees>."}
    assert document["paths"]["/trees/{tree}"]["post"] == {
        "operationId": "grow",
        "summary": "Grow a <tree>.",
        "description": "It takes years.",
        "parameters": [
            {"name": "tree", "in": "path", "required": True, "schema": {"type": "string"}},
            {
                "name": "height",
                "in": "query",
                "required": False,
                "description": "In <metres>.",
                "schema": {"type": "integer", "minimum": 1, "default": 3},
            },
            {
                "name": "from",
                "in": "query",
                "required": False,
                "schema": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            },
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Leaf-Input"}}},
        },
        "responses": {
            "200": {
                "description": "The answer.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Tree"}}},
            },
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }
    assert document["paths"]["/trees"]["delete"]["summary"] == "Fell it"
    assert document["paths"]["/trees"]["delete"]["responses"].keys() == {"204", "default"}


async def test_streams_of_events_are_described(serve: Serve) -> None:
    """By their media type, beside the answer that can be had instead, or alone."""

    async def either() -> Leaf | EventStream:
        raise NotImplementedError

    async def alone() -> EventStream:
        """Tell what happens."""
        stream = EventStream()
        stream.headers["X-Kept"] = "no"
        return stream

    client = await serve([route.get("/either", either), route.get("/alone", alone)])
    async with client.get("/openapi.json") as response:
        paths = (await response.json())["paths"]
    told = [list(paths[path]["get"]["responses"]["200"]["content"]) for path in ("/either", "/alone")]
    assert told == [["application/json", "text/event-stream"], ["text/event-stream"]]
    async with client.get("/alone") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert (response.headers["Cache-Control"], response.headers["X-Kept"]) == ("no-store", "no")


async def test_the_document_is_whole(serve: Serve) -> None:
    """Every reference names something, nothing is left over, and every id is unique."""
    document = await _document(serve)
    references = {value for key, value in _members(document) if key == "$ref"}
    for reference in references:
        found = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
    named = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert named == references - {"#/components/responses/Problem"}
    ids = [value for key, value in _members(document["paths"]) if key == "operationId"]
    assert sorted(ids) == ["_fell_it", "grow"]


async def test_the_problem_schema_is_what_problems_are(serve: Serve) -> None:
    """The members of a real problem are those that the document promises."""
    document = await _document(serve)
    client = await serve(ROUTES)
    async with client.get("/nowhere") as response:
        problem = await response.json(content_type="application/problem+json")
    schema = document["components"]["schemas"]["ErrorBody"]
    assert set(schema["required"]) == set(schema["properties"]) == problem.keys()


async def test_the_page_shows_everything_and_loads_nothing(serve: Serve) -> None:
    """One page without scripts, under a policy that allows its own style alone."""
    client = await serve(ROUTES, title="Wood & <Co>", description="Many <trees>.")
    async with client.get("/docs") as response:
        page, policy = await response.text(), response.headers["Content-Security-Policy"]
    style = re.search("<style>(.*)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    for text in ("Wood &amp; &lt;Co&gt;", "Many &lt;trees&gt;.", "Grow a &lt;tree&gt;.", "In &lt;metres&gt;."):
        assert text in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert page.count("<h2>") == 3
    checker = _PageChecker()
    checker.feed(page)
    checker.close()
    assert checker.open_tags == []
    assert checker.links == {"openapi.json", "#path-0", "#path-1", "#path-2"}
    assert checker.tags.isdisjoint({"script", "link", "img", "iframe", "b"})


class _PageChecker(HTMLParser):
    """Notes the tags, the links, and whether what was opened is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: set[str | None] = set()
        self.open_tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one opened tag."""
        self.tags.add(tag)
        self.links.update(value for name, value in attrs if name in {"href", "src"})
        if tag != "meta":
            self.open_tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Note one closed tag."""
        assert self.open_tags.pop() == tag


def _members(value: object) -> Iterator[tuple[str, Any]]:
    for each in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        yield from _members(each)
    if isinstance(value, dict):
        yield from value.items()
