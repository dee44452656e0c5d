"""``kyori``: the commands gathered, and errors turned into one line and an exit code.

Exit codes: 0 done · 1 done in part (some trainings of a comparison failed) · 2 a mistake in the command or the data
(one line on stderr) · 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence

import typer

from .. import __version__
from ..errors import Interrupted, KyoriError, RankError
from . import (
    calibrate,
    clean,
    cluster,
    compare,
    doctor,
    duplicates,
    embed,
    evaluate,
    explore,
    export,
    identify,
    index,
    losses,
    mine,
    outliers,
    quickstart,
    report,
    search,
    serve,
    train,
    verify,
)
from .console import note, show_warnings

__all__ = ["app", "main", "run"]

app = typer.Typer(
    name="kyori",
    help="Learn a distance from labelled examples, compare the methods, and put the best to work.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"kyori {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


for module in (
    quickstart,
    report,
    train,
    compare,
    evaluate,
    embed,
    export,
    mine,
    index,
    search,
    explore,
    serve,
    calibrate,
    verify,
    identify,
    clean,
    outliers,
    duplicates,
    cluster,
    losses,
    doctor,
):
    module.register(app)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; a user's mistake is one line on stderr, never a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with warnings.catch_warnings():
        show_warnings()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ:
            from .ranks import run_ranked

            return run_ranked(words, _run)
        return _run(words, note)


def _run(words: list[str], tell: Callable[[str], None]) -> int:
    try:
        app(args=words, prog_name="kyori")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Interrupted as stop:
        tell(str(stop))
        return 130
    except RankError:
        return 2
    except KyoriError as error:
        tell(f"error: {error}")
        return 2
    except OSError as error:
        tell(f"error: {error.strerror or error}: {error.filename}" if error.filename else f"error: {error}")
        return 2
    return 0


def main() -> None:
    """Entry point of the command ``kyori``."""
    sys.exit(run())
