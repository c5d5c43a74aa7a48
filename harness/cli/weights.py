"""`samiro-bench weights`: the pretrained weights that detectors' backbones start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from harness.cli.console import listing_console, say
from harness.cli.options import Json

if TYPE_CHECKING:
    from harness.weights.cache import WeightsCard

app = typer.Typer(add_completion=False, help="Pretrained backbone weights and their cache.")


@app.command("list", epilog="Example: samiro-bench weights list")
def list_weights(as_json: Json = False) -> None:
    """List what `weights: imagenet` stands for, backbone by backbone, and what of it is in the cache."""
    from detectors.backbone_sources import BACKBONES
    from harness.weights.cache import cached_path, read_card, weights_folder
    from harness.weights.fetch import DATA, published

    rows: list[dict[str, Any]] = []
    for backbone, source in BACKBONES.items():
        if source.imagenet is None:
            rows.append({"backbone": backbone, "imagenet": None})
            continue
        what, path = published(backbone), cached_path(source.imagenet)
        card = read_card(path)
        rows.append(
            {
                "backbone": backbone,
                "imagenet": what.name,
                "licence": what.licence,
                "data": DATA,
                "sources": [source.url for source in what.sources],
                "cached": None if card is None else {"file": str(path), **card.model_dump(mode="json")},
            }
        )
    if as_json:
        typer.echo(json.dumps({"cache": str(weights_folder()), "weights": rows}))
        return
    table = Table("backbone", "imagenet", "in the cache", "licence", "trained on", "source", box=SIMPLE_HEAD)
    for row in rows:
        if row["imagenet"] is None:
            table.add_row(row["backbone"], "-", "-", "", "", "")
            continue
        held = row["cached"]
        cached = "no" if held is None else f"sha256 {held['sha256'][:12]}{'' if held['published'] else ', unconfirmed'}"
        table.add_row(row["backbone"], row["imagenet"], cached, row["licence"], row["data"], row["sources"][0])
    console = listing_console()
    console.print(table)
    say(console, f"cache: {weights_folder()}")


@app.command(epilog="Example: samiro-bench weights fetch culane")
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A backbone, a detector, or a suite: all that it needs.")],
    file: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="A file that was downloaded elsewhere, instead of the network."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Get the published weights of NAME into the cache, checked; what is there stays."""
    from harness.errors import InputError
    from harness.matrix.needed_weights import backbones_of
    from harness.weights import fetch as getting
    from harness.weights.cache import cached_path

    backbones = backbones_of(name)
    if file is not None and len(backbones) != 1:
        raise InputError(f"--from {file}: {name} needs {', '.join(backbones) or 'no weights'}: name one backbone")
    cards = [fetch_shown(backbone) if file is None else getting.add(backbone, file) for backbone in backbones]
    if as_json:
        typer.echo(json.dumps({"weights": [card.model_dump(mode="json") for card in cards]}))
        return
    for card in cards:
        doubt = "" if card.published else "; not confirmed to be the published file, which records flag"
        typer.echo(f"{card.name}: {card.entries} entries, sha256 {card.sha256}, in {cached_path(card.name)}{doubt}")
    if not cards:
        typer.echo(f"{name} needs none: every backbone starts from random weights or a file")


def fetch_shown(backbone: str) -> WeightsCard:
    """Fetch under a bar on standard error."""
    from harness.weights.fetch import fetch as get

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(backbone, total=None)
        return get(backbone, lambda done, total: progress.update(task, completed=done, total=total))
