"""Owns how an OpenAPI document is served, and the page that shows it to people.

The page is whole in itself: no script, nothing loaded from elsewhere, and a policy that holds the browser to that. Must
not know routes: it reads the document alone.
"""

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from importlib.resources import files
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler as Answer
from pydantic.json_schema import JsonSchemaValue

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title} <small>{version}</small></h1>{description}
<p><a href="openapi.json">OpenAPI 3.1 document</a></p></header>
<nav aria-label="Paths"><ul>{contents}</ul></nav>
<main>{paths}</main>
</body>
</html>
"""


def document_response(document: JsonSchemaValue) -> Answer:
    """Serve the document as JSON."""
    body = orjson.dumps(document)

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    return answer


def page_response(document: JsonSchemaValue) -> Answer:
    """Serve the page."""
    style = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    body = render(document, style)
    headers = {
        "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=body, content_type="text/html", charset="utf-8", headers=headers)

    return answer


def render(document: JsonSchemaValue, style: str) -> str:
    """Write the page; all text in the document is escaped."""
    info, paths = document["info"], document["paths"]
    return _PAGE.format(
        title=escape(info["title"]),
        version=escape(info["version"]),
        style=style,
        description=_text(info),
        contents="".join(
            f'<li><a href="#path-{index}"><code>{escape(path)}</code></a></li>' for index, path in enumerate(paths)
        ),
        paths="".join(
            f'<section id="path-{index}"><h2><code>{escape(path)}</code></h2>'
            + "".join(_operation(method, operation, document) for method, operation in operations.items())
            + "</section>"
            for index, (path, operations) in enumerate(paths.items())
        ),
    )


def _operation(method: str, operation: JsonSchemaValue, document: JsonSchemaValue) -> str:
    head = f'<h3><span class="method {method}">{method.upper()}</span> {escape(operation.get("summary", ""))}</h3>'
    parameters = _parameters(operation.get("parameters", []), document)
    body = operation.get("requestBody")
    sent = _content("Body", body, document) if body else ""
    answers = "".join(
        _content(f"Answer {status}" if status != "default" else "Any error", _resolved(answer, document), document)
        for status, answer in operation["responses"].items()
    )
    return f"<article>{head}{_text(operation)}{parameters}{sent}{answers}</article>"


def _text(described: JsonSchemaValue) -> str:
    text: str = described.get("description", "")
    return "".join(f"<p>{escape(paragraph)}</p>" for paragraph in text.split("\n\n") if paragraph)


def _parameters(parameters: list[JsonSchemaValue], document: JsonSchemaValue) -> str:
    if not parameters:
        return ""
    head = "<tr><th>Parameter</th><th>In</th><th>Required</th><th>Schema</th><th>Description</th></tr>"
    rows = "".join(
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{each['in']}</td>"
        f"<td>{'yes' if each['required'] else 'no'}</td>"
        f"<td><code>{escape(_json(_expanded(each['schema'], document), indented=False))}</code></td>"
        f"<td>{escape(each.get('description', ''))}</td></tr>"
        for each in parameters
    )
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>'


def _content(title: str, described: JsonSchemaValue, document: JsonSchemaValue) -> str:
    schemas = "".join(_schemas(described.get("content", {}), document))
    # Every operation fails in one and the same form: it is there to unfold, not in the way.
    shown = "" if title == "Any error" else " open"
    note = described.get("description", "") or ("" if described.get("required", True) else "May be left out.")
    return f"<details{shown}><summary>{escape(title)}</summary><p>{escape(note)}</p>{schemas}</details>"


def _schemas(content: JsonSchemaValue, document: JsonSchemaValue) -> Iterator[str]:
    for media_type, media in content.items():
        schema = _json(_expanded(media["schema"], document), indented=True)
        yield f'<p class="type">{escape(media_type)}</p><pre><code>{escape(schema)}</code></pre>'


def _json(value: object, *, indented: bool) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 if indented else None).decode()


def _expanded(schema: Any, document: JsonSchemaValue, within: tuple[str, ...] = ()) -> Any:  # noqa: ANN401 - any JSON
    """Put definitions in the place of references to them; one that contains itself stays a reference there."""
    if isinstance(schema, list):
        return [_expanded(each, document, within) for each in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference not in within:
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return _expanded(_resolved(schema, document) | beside, document, (*within, reference))
    # A title only repeats the name that stands before it; a property called `title` is a schema, not text.
    return {
        key: _expanded(value, document, within)
        for key, value in schema.items()
        if key != "title" or not isinstance(value, str)
    }


def _resolved(described: JsonSchemaValue, document: JsonSchemaValue) -> JsonSchemaValue:
    """Return what a reference names, or what is given itself."""
    found = described
    if "$ref" in described:
        found = document
        for step in described["$ref"].removeprefix("#/").split("/"):
            found = found[step]
    return found
