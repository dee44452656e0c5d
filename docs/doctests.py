"""Show the doctests of docstrings as code: Markdown would take their `>>>` for quotations."""

from typing import Any

import griffe


class FencedDoctests(griffe.Extension):
    """Put every run of doctest lines into a fence of its own."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """The text with a fence around each paragraph that begins with `>>>`."""
    lines: list[str] = []
    inside = ""
    for line in text.splitlines():
        bare = line.lstrip()
        if not inside and bare.startswith(">>>"):
            inside = line[: len(line) - len(bare)] + "```"
            lines += ["", inside + "python"]
        elif inside and not bare:
            lines.append(inside)
            inside = ""
        lines.append(line)
    return "\n".join([*lines, inside] if inside else lines)
