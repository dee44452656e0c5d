"""What the servers share: names of columns, and the note of what an index was made with."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import pyarrow

from ..errors import ArgumentError, FileFormatError
from .schema import Schema
from .store import Settings

__all__ = ["column_names", "facts_text", "read_facts", "redacted", "table_of"]

_FORMAT = "kyori.index"


def redacted(url: str) -> str:
    """Return a URL without its password.

    >>> redacted("postgresql://ann:secret@db/photos#faces")
    'postgresql://ann:***@db/photos#faces'
    """
    try:
        password = urlsplit(url).password
    except ValueError:
        return url.partition("://")[0] + "://…"
    return url.replace(f":{password}@", ":***@", 1) if password else url


def column_names(schema: Schema) -> dict[str, str]:
    """Return what each column is called on a server.

    >>> column_names(Schema(2, "int", (("label", "str"), ("x; DROP TABLE y", "int"))))
    {'label': 'col_label', 'x; DROP TABLE y': 'col_1'}
    """
    plain = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
    return {
        name: f"col_{name}" if plain.fullmatch(name) else f"col_{place}"
        for place, (name, _) in enumerate(schema.columns)
    }


def facts_text(settings: Settings, schema: Schema) -> str:
    """Return what an index was made with, as JSON for a comment."""
    return json.dumps(
        {"format": _FORMAT, "version": 1, "settings": vars(settings), "schema": schema.to_dict()}
    )


def read_facts(
    text: str | None, place: str, settings: Settings, insist: Sequence[str]
) -> tuple[Settings, Schema]:
    """Read what :func:`facts_text` wrote, and hold it against the settings that the caller insists on."""
    try:
        facts = json.loads(text or "")
        if facts["format"] != _FORMAT:
            raise ValueError
        made, schema = Settings(**facts["settings"]), Schema.from_dict(facts["schema"])
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise ArgumentError(
            f"{place} is there but was not made by Kyori; choose another name: …#name."
        ) from error
    for name in insist:
        if getattr(made, name) != getattr(settings, name):
            hint = "; change it with compact(factory=...)" if name == "factory" else ""
            raise ArgumentError(
                f"{place} was made with {name} {getattr(made, name)!r}{hint}; got {getattr(settings, name)!r}."
            )
    return made, schema


def table_of(schema: Schema, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> pyarrow.Table:
    """Return rows of Python values as a table."""
    types = {"bool": pyarrow.bool_(), "int": pyarrow.int64(), "float": pyarrow.float64()}
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    return pyarrow.table(
        {
            name: pyarrow.array(values, types.get(schema.kind(name), pyarrow.large_string()))
            for name, values in zip(names, columns, strict=True)
        }
    )
