"""What the commands print: results on stdout, notes and progress on stderr."""

from __future__ import annotations

import functools
import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import typer

from ..errors import KyoriWarning

__all__ = ["JSON", "is_first", "note", "print_json", "show_warnings", "stops_at_ctrl_c"]

P = ParamSpec("P")
T = TypeVar("T")

#: The option that every command has.
JSON = typer.Option(False, "--json", help="Print the result as JSON on stdout.")


def note(text: str) -> None:
    """Print a line for the person at the terminal, on stderr so that stdout stays clean for pipes."""
    print(text, file=sys.stderr, flush=True)


def is_first() -> bool:
    """Whether this process is the one that prints: of those that `torchrun` started, the one of rank 0."""
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


def print_json(value: Any) -> None:
    """Print a JSON document on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def show_warnings() -> None:
    """Show Kyori's warnings as one line each, and leave other packages' warnings to developers."""

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if is_first():
            note(f"note: {message}")

    warnings.showwarning = show  # restored by the caller's catch_warnings
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", KyoriWarning)


def stops_at_ctrl_c(command: Callable[P, T]) -> Callable[P, T]:
    """Let Ctrl-C end a command with exit code 130 and one line, where nothing is there to be saved."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            note("stopped.")
            raise typer.Exit(130) from None

    return wrapped
