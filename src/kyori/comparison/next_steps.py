"""What to do with the model that won: commands to copy."""

from __future__ import annotations

import shlex
from pathlib import Path

from ..data.opening import BUILTIN
from .board import Board
from .methods import BASELINES

__all__ = ["next_steps"]


def next_steps(board: Board) -> tuple[str, ...]:
    """Return commands that put the winner to work: explore its vectors, index its items, train it for longer.

    They name the winner's first cell, not its best one, which the test items would have chosen. Nothing is returned
    where no cell was kept or nothing was learned; commands that read the data are left out where it came as arrays.

    >>> import kyori
    >>> next_steps(kyori.compare("digits", methods=["raw", "lda"], seeds=1, per_class=20))
    ()
    """
    cell = board.of(board.winner)[0]
    if cell.folder is None or board.winner in BASELINES:
        return ()
    run = shlex.quote(str(cell.folder))
    commands = [f"kyori explore {run}"]
    place = board.sources.get(cell.dataset, "")
    if place in BUILTIN or (place and Path(place).exists()):
        data = shlex.quote(place)
        commands.append(f"kyori index {run} {data}")
        epochs = board.budget.get("epochs")
        if cell.items_seen is not None and isinstance(epochs, int):
            longer = shlex.quote(f"runs/{cell.dataset}-{board.winner}")
            config = shlex.quote(str(cell.folder / "config.yaml"))
            commands.append(f"kyori train {data} --config {config} --epochs {2 * epochs} --out {longer}")
    return tuple(commands)
