"""`samiro-bench overlays`: what every trained detector of a suite finds in the same images, on one page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from harness.cli.options import RESULTS, Crop, Json, Only, Results, Seeds, Tier
from harness.errors import InputError
from harness.report.text import counted

if TYPE_CHECKING:
    from harness.suite import Cell

app = typer.Typer(add_completion=False)

QUALITY = 90
"""Of the JPEG."""


@app.command(epilog="Example: samiro-bench overlays field road1.jpg road2.jpg --only seed=0 --out overlays.jpg")
def overlays(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="A suite's name, or the path of its YAML file.")],
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Images, folders of them, or patterns.")],
    out: Annotated[Path, typer.Option(metavar="FILE.jpg", help="The page to write; replaced if it is there.")],
    seeds: Seeds = None,
    only: Only = None,
    tier: Tier = None,
    crop: Crop = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the detectors run.")] = "auto",
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Draw the lanes that the trained cells of SUITE find: a row a cell, a column an image.

    Pictures of licensed datasets may be looked at, not published (docs/datasets.md). For pictures of another shape or horizon than the
    training frames see --crop, as for `predict`. Cells that aren't trained yet, and programs, are left out and named.
    """
    from harness.datasets.images import read_image, write_jpeg
    from harness.inference.detector import chosen_device
    from harness.prediction.sheet import check_size, comparison_sheet, lanes_in
    from harness.prediction.sources import find_images
    from harness.prediction.trained import left_out_note, refuse_untrained, trained_cells
    from harness.suite import Choice

    if out.suffix.lower() not in {".jpg", ".jpeg"}:
        raise InputError(f"--out {out}: the page is a JPEG; give a name that ends in .jpg")
    sources = find_images(images)
    pictures = [read_image(source.path) for source in sources]
    trained, left_out = trained_cells(suite, results, Choice(seeds, only or (), tier=tier))
    if not trained:
        refuse_untrained(suite, results)
    check_size(len(pictures), len(trained))
    chosen = chosen_device(device)
    rows = []
    with Console(stderr=True).status("") as status:
        for one in trained:
            status.update(one.cell.id)
            rows.append((label_of(one.cell), lanes_in(one.detector(), sources, crop, chosen)))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_jpeg(out, comparison_sheet(pictures, rows), QUALITY)
    if as_json:
        shown = [one.cell.id for one in trained]
        counts = {name: [len(lanes) for lanes in row] for name, (_, row) in zip(shown, rows, strict=True)}
        files = [str(source.path) for source in sources]
        typer.echo(
            json.dumps({"out": str(out), "images": files, "cells": shown, "lanes": counts, "left_out": left_out})
        )
        return
    typer.echo(f"{counted(len(rows), 'cell')}, {counted(len(pictures), 'image')}; wrote {out}")
    if left_out:
        typer.echo(left_out_note(left_out), err=True)


def label_of(cell: Cell) -> str:
    """What the page calls a cell."""
    identity = cell.identity
    return f"{identity.detector} {identity.method} {identity.dataset},seed={identity.seed}"
