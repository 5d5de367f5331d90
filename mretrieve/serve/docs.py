"""`GET /docs`: the OpenAPI file for people, as one page without scripts or anything from other hosts."""

import json
import shlex
from collections.abc import Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import APIRouter, FastAPI

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
section { border-top: 1px solid #8886; margin-top: 2rem }
h2 { font-size: 1.15rem } h2 code { font-weight: 400 }
pre { overflow-x: auto; background: #8882; padding: .75rem; border-radius: .4rem; font-size: .85rem }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8883 }
nav a { display: inline-block; margin-right: 1rem }
"""
_HEADERS = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}


def docs_router(app: "FastAPI") -> "APIRouter":
    """The page, and `/` which leads to it."""
    from fastapi import APIRouter, Request
    from fastapi.responses import HTMLResponse, RedirectResponse, Response

    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def docs(request: Request) -> Response:
        return HTMLResponse(write_page(app.openapi(), str(request.base_url)), headers=_HEADERS)

    @router.get("/")
    async def start() -> Response:
        return RedirectResponse("docs")

    return router


def write_page(document: Mapping[str, Any], base_url: str) -> str:
    """An OpenAPI document as HTML.

    Args:
        document: the OpenAPI document.
        base_url: of the server, for the examples.
    """
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    links = "".join(
        f'<a href="#{_anchor(path, method)}">{escape(operation["summary"])}</a>'
        for path, method, operation in operations
    )
    sections = "".join(
        _section(document, path, method, operation, base_url.rstrip("/"))
        for path, method, operation in operations
    )
    title = f"{document['info']['title']} {document['info']['version']}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(title)}</h1>{_paragraphs(document['info'].get('description', ''))}"
        f'<p>The whole description: <a href="openapi.json">openapi.json</a></p><nav>{links}</nav>'
        f"{sections}</body></html>"
    )


def _section(
    document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any], base_url: str
) -> str:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    key = operation.get("security")
    return (
        f'<section id="{_anchor(path, method)}"><h2>{escape(operation["summary"])} '
        f"<code>{method.upper()} {escape(path)}</code></h2>"
        f"{_paragraphs(operation.get('description', ''))}"
        f"{''.join(_examples(content, base_url + path, with_key=bool(key)))}"
        f"{_fields(document, content.get('schema', {}))}</section>"
    )


def _examples(content: Mapping[str, Any], url: str, *, with_key: bool) -> Iterator[str]:
    """Commands that can be pasted into a shell."""
    for example in content.get("examples", {}).values():
        body = json.dumps(example["value"], ensure_ascii=False)
        key = " -H 'Authorization: Bearer KEY'" if with_key else ""
        command = f"curl {url}{key} -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}"
        yield f"<p>{escape(example.get('summary', 'Example'))}</p><pre>{escape(command)}</pre>"


def _fields(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A table of what a body may hold."""
    schema = _resolved(document, schema)
    required = schema.get("required", [])
    rows = [
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_type(document, one))}"
        f"{', required' if name in required else ''}</td><td>{escape(one.get('description', ''))}</td></tr>"
        for name, one in schema.get("properties", {}).items()
    ]
    if not rows:
        return ""
    return f"<table><tr><th>Field</th><th>Type</th><th>Meaning</th></tr>{''.join(rows)}</table>"


def _type(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A schema in a few words."""
    schema = _resolved(document, schema)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        names = [_type(document, one) for one in choices if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(names))
    if "enum" in schema:
        return ", ".join(json.dumps(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(document, schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference to one of the document's schemas means."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n") if part.strip())


def _anchor(path: str, method: str) -> str:
    return escape(f"{method}{path}".replace("/", "-").strip("{}"))
