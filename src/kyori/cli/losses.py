"""``kyori losses``: every loss with its formula, paper, defaults and cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from .console import JSON, note, print_json, stops_at_ctrl_c

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("losses")(losses)


@stops_at_ctrl_c
def losses(
    name: str | None = typer.Argument(None, help="One loss; all of them if left out."),
    picture: Path | None = typer.Option(
        None,
        help="Also draw the loss as springs, force against distance (.svg, .png, .pdf), or let points of a plane "
        "settle under its forces (.html, a picture that moves).",
    ),
    as_json: bool = JSON,
) -> None:
    """List the losses, or say everything about one: formula, paper, options, cost, and its picture as springs."""
    from ..errors import ArgumentError
    from ..losses import LOSSES, describe

    cards = [describe(key) for key in ([name] if name else LOSSES)]
    if picture is not None:
        if name is None:
            raise ArgumentError(
                "--picture needs the name of one loss, e.g. kyori losses triplet --picture t.svg."
            )
        (_let_settle if picture.suffix.lower() == ".html" else _draw)(name, picture)
    if as_json:
        print_json(cards if name is None else cards[0])
    elif name is None:
        _print_all(cards)
    else:
        _print_one(cards[0])


def _print_all(cards: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column, style in (("loss", "bold"), ("formula", ""), ("time of a step", "dim")):
        table.add_column(column, style=style, no_wrap=column == "loss")
    for card in cards:
        table.add_row(card["name"], Text(card["formula"]), card["cost"])  # Text: [x]₊ is no markup
    Console().print(table)
    note("n items, m references, p positives of an anchor, c classes. More: kyori losses NAME")


def _print_one(card: dict[str, Any]) -> None:
    print(f"{card['name']}  (kyori.losses.{card['class']})\n\n  {card['formula']}\n")
    print(f"  {card['paper']}")
    print(f"  time of a step: {card['cost']}\n")
    width = max(map(len, card["options"]), default=0)
    for option, value in card["options"].items():
        print(f"  --{option.replace('_', '-'):<{width}}  {value}")


def _draw(name: str, picture: Path) -> None:
    from ..losses import create, springs
    from ..report import spring_figure

    forces = springs(create(name, num_classes=3, embedding_size=8))
    figure = spring_figure(
        forces.distance.numpy(), forces.pull.numpy(), forces.push.numpy(),
        axis="angle to the class vector (radians)" if forces.angles else "distance",
        words=("own class", "other class") if forces.angles else ("positive", "negative"),
    )  # fmt: skip
    figure.savefig(picture, dpi=160)
    note(f"springs of {name} in {picture}")


def _let_settle(name: str, page: Path) -> None:
    from ..errors import ArgumentError
    from ..report import settling_page
    from ..report.page import write_page
    from ..runs import settled_of

    settled = settled_of(name, {})
    if settled is None:
        raise ArgumentError(
            f"{name} takes no labelled points of a plane, so nothing can settle; draw an .svg."
        )
    write_page(page, settling_page(settled, title=name))
    note(f"points settling under {name} in {page}")
