"""``kyori serve``: a run as a service over HTTP."""

from __future__ import annotations

from pathlib import Path

import typer

from .console import JSON, note, print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("serve")(serve)


def serve(
    run: Path = typer.Argument(..., help="A run folder, or a link to one that may be moved on."),
    host: str = typer.Option("127.0.0.1", help="Address to listen on; others than this machine need tokens."),
    port: int = typer.Option(8000, min=0, max=65535, help="TCP port; 0 takes a free one."),
    url: str | None = typer.Option(
        None, envvar="KYORI_INDEX_URL", help="Where the index is, if not where kyori index put it."
    ),
    tokens: Path | None = typer.Option(
        None,
        help="A file of lines 'read TOKEN' or 'write TOKEN'; or set KYORI_READ_TOKEN, KYORI_WRITE_TOKEN.",
    ),
    read_only: bool = typer.Option(
        False, "--read-only", help="Take no new items; leave the index to others."
    ),
    device: str = typer.Option("cpu", help="cpu, cuda, cuda:1, …"),
    max_body: float = typer.Option(16.0, min=0.001, help="MiB of a request's body."),
    max_pixels: int = typer.Option(50_000_000, min=1, help="Pixels of a picture."),
    max_items: int = typer.Option(256, min=1, help="Items in a request."),
    max_requests: int = typer.Option(64, min=1, help="Requests worked on at once; one more is answered 429."),
    max_queue: int = typer.Option(
        1024, min=1, help="Items that wait for the model; one more is answered 503."
    ),
    timeout: float = typer.Option(60.0, min=0.1, help="Seconds for a request."),
    as_json: bool = JSON,
) -> None:
    """Serve RUN over HTTP: /embed /search /verify /identify /items /health /metrics /docs.

    Ctrl-C or SIGTERM stops it when the requests it has accepted are answered; SIGHUP opens RUN again.
    """
    from ..serving import Limits, Service, Tokens
    from ..serving.service import quiet_logs

    body = round(max_body * 2**20)
    limits = Limits(
        body_bytes=body,
        buffered_bytes=max(Limits.buffered_bytes, 4 * body),
        pixels=max_pixels,
        items=max_items,
        batch=min(max_items, Limits.batch),
        concurrency=max_requests,
        queue=max_queue,
        seconds=timeout,
    )
    known = Tokens.gather(tokens)
    quiet_logs()
    service = Service(
        run, host=host, port=port, url=url, tokens=known, writable=not read_only, device=device, limits=limits
    )
    if as_json:
        print_json({"address": service.address, "tokens": len(known), "writable": not read_only})
    else:
        who = f"{known!r}" if len(known) else "no tokens: this machine only, and anybody on it may write"
        note(f"{run} at {service.address} ({who}); the API: {service.address}/docs")
    service.run()
