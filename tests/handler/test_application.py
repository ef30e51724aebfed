"""Applications made from routes, asked over real sockets."""

import asyncio
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import pytest
from aiohttp import ClientPayloadError, web
from pydantic import BaseModel, Field, RootModel, SecretStr
from yarl import URL

from sovren_edge.errors import EdgeError, StartupError
from sovren_edge.handler import Header, RawQuery, Request, Response, Route, Side, StreamResponse, route
from sovren_edge.handler.application import build_application
from tests.handler.witness import Serve, Witness


class Colour(StrEnum):
    """An enumeration, as the query may hold."""

    RED = "red"
    BLUE = "blue"


class Item(BaseModel):
    """A body, and an answer."""

    name: str = Field(alias="itemName")
    size: int = Field(default=1, ge=1)
    key: SecretStr | None = None


async def search(
    shelf: int,
    limit: Annotated[int, Field(ge=1, le=50)] = 10,
    colour: Colour | None = None,
    tag: Annotated[set[str], Field(max_length=2)] = frozenset(),  # type: ignore[assignment]
    owner: UUID | None = None,
) -> dict[str, object]:
    """Answer what was understood."""
    return {"shelf": shelf, "limit": limit, "colour": colour, "tag": sorted(tag), "owner": owner}


async def store(item: Item) -> Item:
    """Answer the body."""
    return item


async def optional(item: Item = Item(itemName="none")) -> str:  # noqa: B008 - an immutable default
    """Answer the body's name."""
    return item.name


async def names(given: RootModel[list[str]]) -> list[str]:
    """Answer a body that is a list."""
    return given.root


async def nothing() -> None:
    """Answer nothing."""


async def wrong() -> int:
    """Answer something else than declared."""
    return "text"  # type: ignore[return-value]


async def wrong_stream() -> StreamResponse:
    """Answer something else than declared."""
    return "text"  # type: ignore[return-value]


async def fail() -> None:
    """Fail in an unexpected way."""
    raise RuntimeError("a secret of ours")


async def refuse() -> None:
    """Refuse as a handler should."""
    raise EdgeError(503, "database_unavailable", "Try again.", side=Side.UPSTREAM, retry_after_s=7)


async def teapot() -> None:
    """Refuse in aiohttp's way."""
    raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"})


async def moved() -> Response:
    """Redirect in aiohttp's way."""
    raise web.HTTPFound("/elsewhere")


async def stream(request: Request, broken: bool = False) -> StreamResponse:  # noqa: FBT001, FBT002 - from the query
    """Stream, and perhaps fail on the way."""
    response = StreamResponse()
    await response.prepare(request)
    await response.write(b"hello")
    if broken:
        raise EdgeError(502, "upstream_failed", "It broke.")
    return response


ROUTES: list[Route] = [
    route.get("/shelves/{shelf}", search),
    route.put("/items", store),
    route.post("/items", optional),
    route.patch("/items", names),
    route.delete("/items", nothing),
    route.get("/wrong", wrong),
    route.get("/wrong-stream", wrong_stream),
    route.get("/fail", fail),
    route.get("/refuse", refuse),
    route.get("/teapot", teapot),
    route.get("/moved", moved),
    route.get("/stream", stream),
]
OWNER = "0b0f7d9e-6c1c-4c4e-9a54-0d5b1c2f3a4b"


async def test_texts_become_what_was_declared(serve: Serve) -> None:
    """Path and query values are converted; what may be repeated is a collection; the rest has its default."""
    client = await serve(ROUTES)
    async with client.get(f"/shelves/7?limit=3&colour=blue&tag=b&tag=a&owner={OWNER}") as response:
        assert await response.json() == {
            "shelf": 7,
            "limit": 3,
            "colour": "blue",
            "tag": ["a", "b"],
            "owner": OWNER,
        }
    async with client.get("/shelves/7") as response:
        assert await response.json() == {"shelf": 7, "limit": 10, "colour": None, "tag": [], "owner": None}


async def test_a_raw_query_is_byte_for_byte(serve: Serve) -> None:
    """Nothing of it is decoded, checked or refused."""

    async def echo(url: RawQuery) -> dict[str, str]:
        return {"is": url.hex()}

    client = await serve([route.get("/raw", echo)])
    for query in ("", "url=a+b%20c&url=%ff&x", "?%zz"):
        async with client.get(URL(f"/raw?{query}", encoded=True)) as response:
            assert await response.json() == {"is": query.encode().hex()}


async def test_what_moved_is_told(serve: Serve) -> None:
    """The old path and all below it, whatever the method; not its neighbours."""
    client = await serve([], moved={"/old": "It is on port 8250 now."})
    for path in ("/old", "/old/", "/old/a/b?c"):
        async with client.post(path) as response:
            problem = await response.json(content_type=None)
            assert (response.status, problem["reason"], problem["message"]) == (404, "moved", "It is on port 8250 now.")
    async with client.get("/older") as response:
        assert (await response.json(content_type=None))["reason"] == "not_found"


async def test_headers_are_read_in_any_case(serve: Serve) -> None:
    """Each once; those that are not declared are nobody's fault."""

    async def tagged(
        key: Annotated[str, Header("X-Key")], tag: Annotated[str | None, Header("X-Tag")] = None
    ) -> list[str | None]:
        return [key, tag]

    client = await serve([route.get("/tagged", tagged)])
    async with client.get("/tagged", headers=[("x-key", "k"), ("X-TAG", "a, b"), ("X-Else", "c")]) as told:
        assert await told.json() == ["k", "a, b"]
    for headers, fault in (
        ([("X-Key", "x1y2"), ("X-Key", "x1y2")], "header.X-Key: Value should be given once, not 2 times"),
        ([], "header.X-Key: Field required"),
    ):
        async with client.get("/tagged", headers=headers) as told:
            assert (await told.json(content_type=None))["detail"] == fault


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("/shelves/x1y2", "path.shelf: Input should be a valid integer"),
        ("/shelves/7?limit=x1y2", "query.limit: Input should be a valid integer"),
        ("/shelves/7?limit=", "query.limit: Input should be a valid integer"),
        ("/shelves/7?limit=99", "query.limit: Input should be less than or equal to 50"),
        ("/shelves/7?limit=1&limit=2", "query.limit: Value should be given once, not 2 times"),
        ("/shelves/7?colour=x1y2", "query.colour: Input should be 'red' or 'blue'"),
        ("/shelves/7?owner=x1y2", "query.owner: Input should be a valid UUID"),
        ("/shelves/7?tag=a&tag=b&tag=c", "query.tag: Set should have at most 2 items"),
        ("/shelves/7?value_limit=3", "query.value_limit: Extra inputs are not permitted"),
        ("/shelves/7?lmit=x1y2", "query.lmit: Extra inputs are not permitted"),
    ],
)
async def test_faulty_texts_are_told_by_their_place_and_never_repeated(serve: Serve, target: str, fault: str) -> None:
    """Each is a 400 that names the place and what was expected there."""
    client = await serve(ROUTES)
    async with client.get(target) as response:
        problem = await response.json(content_type="application/problem+json")
        assert response.status == 400
    assert problem["reason"] == "invalid_request"
    assert problem["detail"].startswith(fault)
    assert problem["detail"] == problem["error"] == problem["message"]
    if "x1y2" not in fault:
        assert "x1y2" not in problem["detail"]


async def test_all_faults_are_told_at_once_up_to_a_limit(serve: Serve) -> None:
    """Faults of path, query and body stand in one sentence; a flood of them is cut."""
    client = await serve(ROUTES)
    flood = "&".join(f"{'n' * 200}{index}=1" for index in range(30))
    async with client.get(f"/shelves/x?limit=0&{flood}") as response:
        detail = (await response.json(content_type=None))["detail"]
    assert "path.shelf: " in detail
    assert "query.limit: " in detail
    assert detail.endswith("; and 12 more")
    assert len(detail) < 3000


async def test_bodies_are_json_whatever_their_type_says(serve: Serve) -> None:
    """A model's aliases hold both ways, secrets are never printed, and a list can be a body."""
    client = await serve(ROUTES)
    async with client.put("/items", data=b'{"itemName":"x","size":2,"key":"k"}') as response:
        assert response.headers["Content-Type"] == "application/json"
        assert await response.json() == {"itemName": "x", "size": 2, "key": "**********"}
    async with client.patch("/items", json=["a", "b"]) as response:
        assert await response.json() == ["a", "b"]
    async with client.delete("/items") as response:
        assert (response.status, await response.read()) == (204, b"")
        assert "Content-Type" not in response.headers


async def test_a_body_with_a_default_may_be_left_out(serve: Serve) -> None:
    """An empty body is then no fault."""
    client = await serve(ROUTES)
    async with client.post("/items") as response:
        assert await response.json() == "none"
    async with client.post("/items", json={"itemName": "x"}) as response:
        assert await response.json() == "x"


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "body: Invalid JSON: EOF"),
        (b"{hush", "body: Invalid JSON: "),
        (b'{"itemName":"\xff"}', "body: Invalid JSON: "),
        (b"[" * 5000, "body: Invalid JSON: recursion limit"),
        (b'{"itemName":{"hush":1},"size":"hush"}', "body.itemName: Input should be a valid string; body.size: "),
    ],
)
async def test_faulty_bodies_are_told_and_never_repeated(serve: Serve, body: bytes, fault: str) -> None:
    """Each is a 400 of the same form."""
    client = await serve(ROUTES)
    async with client.put("/items", data=body) as response:
        problem = await response.json(content_type="application/problem+json")
        assert response.status == 400
    assert problem["detail"].startswith(fault)
    assert "hush" not in problem["detail"]


async def test_a_body_that_breaks_its_encoding_is_the_callers_fault(serve: Serve, witness: Witness) -> None:
    """It is refused, and nothing is logged."""
    client = await serve(ROUTES)
    port = client.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PUT /items HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nhush")
    async with asyncio.timeout(30):
        assert b" 400 " in await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert witness.lines == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_have_a_limit(serve: Serve, *, chunked: bool) -> None:
    """One byte more is a 413."""
    client = await serve(ROUTES, body_limit=64)
    body = b'{"itemName":"' + b"x" * 49 + b'"}'
    for padding, status in ((b"", 200), (b" ", 413)):
        async with client.put("/items", data=body + padding, chunked=chunked or None) as response:
            assert response.status == status
            answer = await response.json(content_type=None)
    assert (answer["reason"], answer["detail"]) == ("body_too_large", "The body is larger than 64 bytes.")


async def test_what_is_not_served_is_a_problem_too(serve: Serve, witness: Witness) -> None:
    """404 and 405 have the one form of errors; 405 says what is allowed; neither is counted under the caller's path."""
    client = await serve(ROUTES)
    async with client.get("/nowhere") as response:
        assert (response.status, (await response.json(content_type=None))["reason"]) == (404, "not_found")
    async with client.get("/items") as response:
        assert response.headers["Allow"] == "DELETE,PATCH,POST,PUT"
        assert (response.status, (await response.json(content_type=None))["reason"]) == (405, "method_not_allowed")
    assert witness.observed == [("GET", "", 404), ("GET", "", 405)]


async def test_head_answers_where_get_does(serve: Serve) -> None:
    """The same head, no body, and the connection can be used again."""
    client = await serve(ROUTES)
    for target in ("/shelves/7", "/stream", "/refuse", "/docs", "/openapi.json", "/shelves/7"):
        async with client.get(target) as expected:
            length = expected.headers.get("Content-Length")
            await expected.read()
        async with client.head(target) as response:
            assert (response.status, response.headers.get("Content-Length")) == (expected.status, length)
            assert await response.read() == b""


async def test_who_asks_again_is_told_only_what_is_new(serve: Serve) -> None:
    """A GET's answer has an ETag, which is the same for the same answer, and 304 says that it still is."""
    client = await serve([route.get("/shelves/{shelf}", search), route.post("/items", store)])
    async with client.get("/shelves/7") as answer:
        etag, whole = answer.headers["ETag"], await answer.read()
        assert answer.headers["Cache-Control"] == "private, no-cache"
    for method, known, status in (
        ("GET", etag, 304), ("GET", f'"other", W/{etag}', 304), ("HEAD", etag, 304), ("GET", "*", 304),
        ("GET", '"other"', 200), ("HEAD", '"other"', 200),
    ):  # fmt: skip
        async with client.request(method, "/shelves/7", headers={"If-None-Match": known}) as answer:
            assert (answer.status, answer.headers["ETag"]) == (status, etag)
            assert await answer.read() == (whole if (method, status) == ("GET", 200) else b"")
    async with client.get("/shelves/8", headers={"If-None-Match": etag}) as answer:
        assert (answer.status, answer.headers["ETag"] != etag) == (200, True)
    async with client.post("/items", json={"itemName": "x"}) as answer:
        assert "ETag" not in answer.headers


async def test_what_is_described_may_be_answered_otherwise(serve: Serve) -> None:
    """A function that declares a model or a response answers with either."""

    async def either(item: Item) -> Item | StreamResponse:
        return item if item.size > 1 else Response(text="one", content_type="text/plain")

    client = await serve([route.post("/items", either)])
    for size, body in ((2, b'{"itemName":"x","size":2,"key":null}'), (1, b"one")):
        async with client.post("/items", json={"itemName": "x", "size": size}) as answer:
            assert await answer.read() == body
    async with client.get("/openapi.json") as answer:
        described = (await answer.json())["paths"]["/items"]["post"]["responses"]["200"]["content"]
    assert list(described) == ["application/json"]


async def test_what_is_streamed_to_head_stays_here(serve: Serve) -> None:
    """Two requests on one connection: the second answer's head follows the first's at once."""
    client = await serve(ROUTES)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(
        b"HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\nHEAD /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    async with asyncio.timeout(30):
        answers = await reader.read()
    writer.close()
    await writer.wait_closed()
    heads = answers.split(b"\r\n\r\n")
    assert [head[:12] for head in heads] == [b"HTTP/1.1 200", b"HTTP/1.1 200", b""]


async def test_unexpected_faults_are_logged_and_not_told(serve: Serve, witness: Witness) -> None:
    """The caller gets an id, the log gets the traceback under it."""
    client = await serve(ROUTES)
    for target in ("/fail", "/wrong", "/wrong-stream"):
        async with client.get(target) as response:
            problem = await response.json(content_type="application/problem+json")
            assert (response.status, problem["reason"]) == (500, "internal_error")
        entry = witness.lines.pop()
        assert (entry["event"], entry["route"], entry["exc_info"]) == ("request_failed", target, True)
        assert entry["request_id"] == problem["request_id"] == response.headers["X-Request-Id"]
        assert "secret" not in str(problem)


async def test_refusals_keep_their_status_and_headers(serve: Serve, witness: Witness) -> None:
    """A handler's own errors, and aiohttp's, in one form; redirects are no errors."""
    client = await serve(ROUTES)
    async with client.get("/refuse") as response:
        problem = await response.json(content_type="application/problem+json")
        assert (response.status, response.headers["Retry-After"]) == (503, "7")
        assert (problem["reason"], problem["statusCode"]) == ("database_unavailable", 503)
    async with client.get("/teapot") as response:
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert (await response.json(content_type="application/problem+json"))["detail"] == "Unauthorized"
    async with client.get("/moved", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, "/elsewhere")
        assert response.headers["X-Request-Id"]
    assert witness.observed == [("GET", "/refuse", 503), ("GET", "/teapot", 401), ("GET", "/moved", 302)]
    assert witness.lines == []


async def test_a_stream_that_breaks_ends_as_broken(serve: Serve, witness: Witness) -> None:
    """Its caller must not take it for whole, and the failure is counted."""
    client = await serve(ROUTES)
    async with client.get("/stream") as response:
        assert await response.read() == b"hello"
    async with client.get("/stream?broken=true") as response:
        with pytest.raises(ClientPayloadError):
            await response.read()
    assert witness.observed == [("GET", "/stream", 200), ("GET", "/stream", 502)]


async def test_a_caller_who_leaves_ends_the_work(serve: Serve, witness: Witness) -> None:
    """The function is cancelled, and the request is counted once, as 499."""
    entered, left = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    client = await serve([route.get("/wait", wait)])
    _, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(30):
        await entered.wait()
        writer.close()
        await writer.wait_closed()
        await left.wait()
        await witness.ended.wait()
    assert witness.observed == [("GET", "/wait", 499)]
    assert witness.lines == []


@pytest.mark.parametrize("cancelling", [True, False])
async def test_a_caller_who_leaves_a_stream_is_no_failure_of_ours(
    serve: Serve, witness: Witness, *, cancelling: bool
) -> None:
    """Nothing is logged when a write finds nobody."""

    async def endless(request: Request) -> StreamResponse:
        response = StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    client = await serve([route.get("/endless", endless)], cancelling=cancelling)
    async with client.get("/endless") as response:
        await response.content.readexactly(65536)
        response.close()
    async with asyncio.timeout(30):
        await witness.ended.wait()
    assert witness.observed == [("GET", "/endless", 499)]
    assert witness.lines == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [("a.B_9-z", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("a\u00e9", False), ("", False)],
)
async def test_harmless_request_ids_are_kept(serve: Serve, given: str, *, kept: bool) -> None:
    """Others are replaced by one of ours."""
    client = await serve(ROUTES)
    for target in ("/shelves/7", "/nowhere", "/stream"):
        async with client.get(target, headers={"X-Request-Id": given}) as response:
            answered = response.headers["X-Request-Id"]
            await response.read()
        assert (answered == given) is kept
        assert kept or UUID(hex=answered).version == 4


@pytest.mark.parametrize(
    ("routes", "fault"),
    [
        ([route.get("/a/{shelf}", search), route.get("/b", nothing), route.get("/b", fail)], "answer GET: /b and /b"),
        ([route.get("/health", nothing)], "the path /health belongs to the port itself"),
    ],
)
def test_clashing_routes_are_refused(witness: Witness, routes: list[Route], fault: str) -> None:
    """One path has one meaning."""
    with pytest.raises(StartupError, match=f"Test: .*{fault}"):
        build_application(routes, title="Test", version="1", log=witness.log, observe=witness.observe)
