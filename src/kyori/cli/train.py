"""``kyori train``: learn a distance from DATA and keep the run in a folder."""

from __future__ import annotations

from pathlib import Path

import typer

from .console import JSON, is_first, note, print_json
from .overrides import OVERRIDES, ConfigCommand, parse_overrides

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("train", cls=ConfigCommand)(train)


def train(
    data: str | None = typer.Argument(
        None, help="A folder of class folders, manifest, idx folder, .npz or 'digits'."
    ),
    loss: str | None = typer.Option(None, help="triplet, contrastive, arcface, cosface, sphereface, …"),
    backbone: str | None = typer.Option(None, help="mlp, cnn, or any timm name."),
    recipe: str | None = typer.Option(
        None, help="A published set-up: siamese-mlp, l2-cnn, facenet-triplet, …"
    ),
    epochs: int | None = typer.Option(None, help="Times that the training items are seen."),
    batch_size: int | None = typer.Option(None, help="Items in a batch."),
    lr: float | None = typer.Option(None, help="Learning rate."),
    seed: int | None = typer.Option(None, help="Seed of everything random."),
    precision: str | None = typer.Option(
        None, help="auto, float32, bf16 or fp16 (GPU); the loss stays in float32."
    ),
    channels_last: bool | None = typer.Option(
        None, "--channels-last/--no-channels-last", help="Pictures with channels innermost."
    ),
    compiled: bool | None = typer.Option(
        None, "--compile/--no-compile", help="Run the network through torch.compile."
    ),
    checkpoint_every: str | None = typer.Option(
        None, help="'500 steps', '10 minutes' or '2 epochs'. By default each epoch."
    ),
    profile: bool | None = typer.Option(None, "--profile/--no-profile", help="Say where the time goes."),
    out: Path | None = typer.Option(None, help="Run folder to write. By default runs/DATA-LOSS."),
    config: Path | None = typer.Option(None, "-c", "--config", help="YAML file to start from."),
    corrections: Path | None = typer.Option(
        None, help="CSV that the page of kyori clean saved: labels to change, items to leave out."
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on where the run in --out stopped."),
    print_config: bool = typer.Option(False, "--print-config", help="Print the full configuration and stop."),
    lang: str = typer.Option("en", help="Language of the report: en or ja."),
    report: bool = typer.Option(
        True, "--report/--no-report", help="Whether the report page is written; kyori report writes it later."
    ),
    overrides: list[str] = OVERRIDES,
    as_json: bool = JSON,
) -> None:
    """Learn a distance from DATA.

    Any key of the configuration is an option: `--margin 0.2`, `--mining semihard`, `--embedding-size 128`.
    """
    named = {
        "loss": loss,
        "backbone": backbone,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
    }
    named |= {"precision": precision, "channels_last": channels_last, "compile": compiled}
    named |= {"checkpoint_every": checkpoint_every, "profile": profile}
    options = parse_overrides(overrides, **named)
    if loss is not None:
        _refuse_methods(loss)
    from ..runs import resolve_config

    settings = resolve_config(config, recipe, **options)
    if print_config:
        print(settings.to_yaml(), end="")
        return
    if data is None:
        note("error: DATA is missing: kyori train DATA [OPTIONS]; see kyori train --help")
        raise typer.Exit(2)
    from ..data import Corrections
    from ..runs import default_folder, fit
    from ..training import Profile, keep_memory

    keep_memory()

    decided = None if corrections is None else Corrections.load(corrections)
    folder = out or default_folder(data, recipe, config, **options)
    run = fit(
        data,
        out=folder,
        config=settings,
        resume=resume,
        progress=is_first(),
        report=lang if report else None,
        corrections=decided,
    )
    if not is_first():
        return
    if decided is not None:
        note(f"corrections: {decided}")
    if run.config.training.profile:
        note(Profile.read_table(folder / "profile.json"))
    if as_json:
        print_json(run.summary())
        return
    print(run)
    note(f"run: {folder}" + (f"    report: {folder / 'report.html'}" if report else ""))


def _refuse_methods(loss: str) -> None:
    """Say how a method of ``kyori compare`` is written where its name is given as a loss.

    Raises:
        ArgumentError: The name is a method's and no loss's.
    """
    from ..comparison import METHODS
    from ..errors import ArgumentError
    from ..losses import LOSSES

    method = METHODS.get(loss)
    if method is None or loss in LOSSES:
        return
    if method.loss is None:
        raise ArgumentError(
            f"'{loss}' is a method of kyori compare that trains no network; make its run with: kyori compare DATA"
            f" --methods {loss}"
        )
    options = [f"--{key.replace('_', '-')} {value}" for key, value in method.options.items()]
    raise ArgumentError(
        f"'{loss}' is a method of kyori compare; write it as a loss: {' '.join([f'--loss {method.loss}', *options])}"
    )
