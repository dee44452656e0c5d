"""The API as one page without scripts: FastAPI's own pages load theirs from another server."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

__all__ = ["api_page"]

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h2{margin:2.2rem 0 .3rem;font-size:1.1rem} code,pre{font:14px/1.5 ui-monospace,monospace}
.verb{display:inline-block;min-width:4.5rem;font-weight:700} table{border-collapse:collapse;margin:.5rem 0}
td,th{border-bottom:1px solid #ddd;padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}
a{color:#2446b8} @media(prefers-color-scheme:dark){body{background:#16181d;color:#ddd}a{color:#9ab4ff}
td,th{border-color:#444}}
"""


def api_page(description: Mapping[str, Any]) -> str:
    """Return an HTML page of an OpenAPI description.

    Args:
        description: What ``/openapi.json`` gives.
    """
    info, schemas = description["info"], description.get("components", {}).get("schemas", {})
    parts = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['description'])}</p>"
    ]
    parts += ["<p>As a file for tools: <a href='openapi.json'>openapi.json</a></p>"]
    for path, methods in description["paths"].items():
        parts += [_operation(method, path, operation) for method, operation in methods.items()]
    parts.append("<h1>Bodies</h1>")
    parts += [_schema(name, schema) for name, schema in sorted(schemas.items())]
    head = f"<meta charset='utf-8'><title>{escape(info['title'])}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>"


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    title = f"<h2><span class='verb'>{method.upper()}</span><code>{escape(path)}</code></h2>"
    said = f"<p>{escape(operation.get('summary', ''))}</p>"
    rows = [
        ("query", f"<code>{escape(p['name'])}</code> {_type(p['schema'])}")
        for p in operation.get("parameters", [])
    ]
    body = operation.get("requestBody", {})
    rows += [(escape(kind), _type(one["schema"])) for kind, one in body.get("content", {}).items()]
    for status, answer in operation.get("responses", {}).items():
        shown = "".join(_type(one.get("schema", {})) for one in answer.get("content", {}).values())
        rows.append((escape(status), f"{escape(answer.get('description', ''))} {shown}"))
    return title + said + _table(rows)


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    needed = schema.get("required", [])
    rows = [
        (f"<code>{escape(key)}</code>{'' if key in needed else ' (optional)'}",
         f"{_type(value)} {escape(value.get('description', ''))}")
        for key, value in schema.get("properties", {}).items()
    ]  # fmt: skip
    said = escape(schema.get("description", ""))
    return f"<h2 id='{escape(name)}'>{escape(name)}</h2><p>{said}</p>{_table(rows)}"


def _type(schema: Mapping[str, Any]) -> str:
    """Return a schema in a few words, with links to the others."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[several]))
    if "enum" in schema or "const" in schema:
        return " or ".join(
            f"<code>{escape(str(v))}</code>" for v in schema.get("enum", [schema.get("const")])
        )
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_type(schema['additionalProperties'])}"
    form = schema.get("format") or schema.get("contentEncoding")
    return escape(str(schema.get("type", ""))) + (f" ({escape(form)})" if form else "")


def _table(rows: list[tuple[str, str]]) -> str:
    return f"<table>{''.join(f'<tr><th>{a}</th><td>{b}</td></tr>' for a, b in rows)}</table>" if rows else ""
