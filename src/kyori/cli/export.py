"""``kyori export``: the model for other tools, and what is lost on the way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from ..errors import ArgumentError
from .console import JSON, note, print_json, stops_at_ctrl_c

if TYPE_CHECKING:
    from ..exporting import Export, Size

__all__ = ["register"]

Format = Literal["onnx", "torch", "safetensors"]
Quantize = Literal["int8", "float16"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("export")(export)


@stops_at_ctrl_c
def export(
    run: Path = typer.Argument(..., help="A run folder."),
    data: str = typer.Argument(
        ..., help="What to compare on: a folder, manifest, idx folder, .npz or 'digits'."
    ),
    format: Format = typer.Option("onnx", help="onnx, torch (torch.export) or safetensors."),
    quantize: Quantize | None = typer.Option(None, help="float16, or with onnx int8."),
    out: Path | None = typer.Option(
        None, help="The file to write (safetensors: folder); in RUN if left out."
    ),
    items: int = typer.Option(1000, min=2, help="On how many items at most the two models are compared."),
    part: str = typer.Option(
        "auto", help="train, validation, test or all; auto: test if DATA are RUN's own."
    ),
    sizes: bool = typer.Option(
        False,
        "--sizes",
        help="Write nothing: compare sizes of vectors (Matryoshka, product codes) by recall.",
    ),
    as_json: bool = JSON,
) -> None:
    """Write RUN's model for other tools and report how far it is from the original on DATA.

    Vectors are written by `kyori embed --format`.
    """
    if sizes:
        if quantize is not None or out is not None:
            raise ArgumentError("--sizes writes no model; leave --quantize and --out out.")
        _sizes(run, data, part, items, as_json)
        return
    from ..exporting import export as export_run

    found = export_run(run, data, out, format=format, quantize=quantize, items=items, part=part)
    if as_json:
        print_json(found.as_dict())
    else:
        _print(found)
        note(f"report: {found.report}")


def _print(found: Export) -> None:
    parity = found.parity
    kind = found.format + (f", {found.quantize}" if found.quantize else "")
    print(f"{found.path} ({kind}): {found.bytes / 2**20:.2f} MiB")
    print(
        f"against PyTorch on {parity.items:,} items ({found.part}): largest difference {parity.max_difference:.2g},"
        f" smallest cosine {parity.min_cosine:.6f}, same nearest neighbour {parity.same_neighbour:.2%}"
        + (f" ({parity.tied} ties)" if parity.tied else "")
    )
    for name, before in parity.before.items():
        after = parity.after[name]
        print(f"{name:9s} {before:.4f} → {after:.4f} ({after - before:+.4f})")
    for size, speed in parity.speed.items():
        print(
            f"batch {size:>3s}: {speed['exported']:,.0f} items/s, PyTorch {speed['pytorch']:,.0f}"
            f" ({speed['exported'] / speed['pytorch']:.2f}×, {parity.threads} threads)"
        )


def _sizes(run: Path, data: str, part: str, items: int, as_json: bool) -> None:
    import numpy as np

    from ..exporting import compare_sizes
    from ..runs import open_part, table_of

    opened, source, part = open_part(run, data, part)
    whole = table_of(opened.embedder, source)
    chosen = np.unique(np.linspace(0, len(whole) - 1, min(max(items, 10_000), len(whole))).astype(np.int64))
    found = compare_sizes(whole.take(chosen), unit=opened.embedder.normalize)
    if as_json:
        print_json({"part": part, "items": len(chosen), "sizes": [size.as_dict() for size in found]})
    else:
        note(f"{len(chosen):,} vectors ({part}) of {whole.vectors.shape[1]} numbers")
        _print_sizes(found)


def _print_sizes(found: list[Size]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    measures = list(found[0].measures)
    for name in ("vectors", "bytes", "of the true 10", *measures):
        table.add_column(name, justify="left" if name == "vectors" else "right")
    for size in found:
        cells: list[Any] = [size.name, f"{size.bytes:g}", f"{size.recall:.3f}"]
        table.add_row(*cells, *(f"{size.measures[name]:.4f}" for name in measures))
    Console().print(table)
