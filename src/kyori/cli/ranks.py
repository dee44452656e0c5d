"""A command as one of several processes that `torchrun` started: one prints, and one says what failed."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from .console import is_first, note

if TYPE_CHECKING:
    from ..distributed import Failure

__all__ = ["run_ranked"]

_TOGETHER = ("train", "embed")
_LOST = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe", "TCPStore")

Run = Callable[[list[str], Callable[[str], None]], int]


def run_ranked(words: list[str], run: Run) -> int:
    """Run a command in this process and the others, and return its exit code.

    Rank 0 prints. The first rank that fails tells why; the others end without a word.
    """
    command = next((word for word in words if not word.startswith("-")), None)
    if command not in (*_TOGETHER, None):
        if is_first():
            note(
                f"error: kyori {command} runs in one process; start it without torchrun. Several processes can "
                f"{' and '.join(_TOGETHER)}."
            )
        return 2
    from .. import distributed

    terminal = sys.stderr
    with ExitStack() as stack:
        if not is_first():
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        with distributed.joined() as failure:

            def tell(text: str) -> None:
                if failure.claim():
                    print(text, file=terminal, flush=True)

            code = _guarded(words, run, failure, tell)
            if code:
                failure.give_way()  # torchrun ends all when the first one ends
                distributed.leave(code)
    return code


def _guarded(words: list[str], run: Run, failure: Failure, tell: Callable[[str], None]) -> int:
    try:
        return run(words, tell)
    except KeyboardInterrupt:
        tell("stopped.")
        return 130
    except RuntimeError as error:
        if not any(word in str(error) for word in _LOST):
            tell(traceback.format_exc().rstrip())
        elif not failure.give_way():
            tell(f"error: another rank was lost: {str(error).splitlines()[0]}")
        return 1
    except Exception:
        tell(traceback.format_exc().rstrip())
        return 1
