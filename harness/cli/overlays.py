"""`samiro-bench overlays`: what every trained detector of a suite finds in the same images, on one page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from harness.cli.options import RESULTS, Crop, Json, Only, Results, Seeds
from harness.errors import InputError

if TYPE_CHECKING:
    from harness.cell import CellPhases
    from harness.matrix import Plan
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
    from harness.inference import chosen_device
    from harness.matrix import make_plan
    from harness.phase_work import finished_detector
    from harness.prediction.sheet import check_size, comparison_sheet, lanes_in
    from harness.prediction.sources import find_sources
    from harness.suite import load_suite

    if out.suffix.lower() not in {".jpg", ".jpeg"}:
        raise InputError(f"--out {out}: the page is a JPEG; give a name that ends in .jpg")
    sources = find_sources(images)
    video = next((source for source in sources if source.is_video), None)
    if video is not None:
        raise InputError(f"{video.path} is a video; give images, `samiro-bench predict --overlay` draws on videos")
    pictures = [read_image(source.path) for source in sources]
    plan = make_plan(load_suite(suite), results, seeds=seeds, only=only or ())
    trained, left_out = trained_cells(plan)
    if not trained:
        raise InputError(f"{suite}: no cell is trained yet; `samiro-bench bench {suite}` trains them")
    check_size(len(pictures), len(trained))
    chosen = chosen_device(device)
    rows = []
    with Console(stderr=True).status("") as status:
        for cell, phases in trained:
            status.update(cell.id)
            threshold = None if phases.threshold is None else phases.threshold.folder
            detector = finished_detector(cell, phases.train.folder, threshold)
            rows.append((label_of(cell), lanes_in(detector, sources, crop, chosen)))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_jpeg(out, comparison_sheet(pictures, rows), QUALITY)
    if as_json:
        shown = [cell.id for cell, _ in trained]
        counts = {cell.id: [len(lanes) for lanes in row] for (cell, _), (_, row) in zip(trained, rows, strict=True)}
        files = [str(source.path) for source in sources]
        typer.echo(
            json.dumps({"out": str(out), "images": files, "cells": shown, "lanes": counts, "left_out": left_out})
        )
        return
    typer.echo(f"{len(rows)} cells, {len(pictures)} images; wrote {out}")
    if left_out:
        more = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        typer.echo(f"not trained here, so left out: {left_out[0]}{more}", err=True)


def trained_cells(plan: Plan) -> tuple[list[tuple[Cell, CellPhases]], list[str]]:
    """The cells whose detectors are finished, and the names of the others, programs among them."""
    from harness.cell import CellPhases
    from harness.suite import Cell

    found, others = [], [cell.id for cell, _ in plan.unavailable]
    for state in plan.cells:
        cell, phases = state.cell, state.phases
        finished = {phase.name for phase, where in state.states if where.state in {"done", "stale"}}
        if isinstance(cell, Cell) and isinstance(phases, CellPhases) and needed(phases) <= finished:
            found.append((cell, phases))
        else:
            others.append(cell.id)
    return found, others


def needed(phases: CellPhases) -> set[str]:
    """The phases without which a cell's detector isn't finished."""
    return {"train"} if phases.threshold is None else {"train", "threshold"}


def label_of(cell: Cell) -> str:
    """What the page calls a cell."""
    identity = cell.identity
    return f"{identity.detector} {identity.method} {identity.dataset},seed={identity.seed}"
