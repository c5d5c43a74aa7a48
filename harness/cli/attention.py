"""`samiro-bench attention`: what the trained detectors of a suite weigh by their spatial attention, in figures and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from harness.cli.console import say
from harness.cli.options import RESULTS, Crop, Json, Only, Results, Seeds, Skip, Tier, folder
from harness.errors import InputError
from harness.report.text import counted

if TYPE_CHECKING:
    from harness.prediction.attention import StageGates
    from harness.report.table import Table

app = typer.Typer(add_completion=False)

HEADER = ("Cell", "Stage", "Mean", "SD", "SD within", "5 %", "95 %", "of")


@app.command(epilog="Example: samiro-bench attention mini 'frames/*.jpg' --only seed=0 --out attention")
def attention(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="A suite's name, or the path of its YAML file.")],
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Images, folders of them, or patterns.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", parser=folder, help="Also draw the gates: a CELL.png each, replaced if it is there."
        ),
    ] = None,
    seeds: Seeds = None,
    only: Only = None,
    skip: Skip = None,
    tier: Tier = None,
    crop: Crop = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the detectors run.")] = "auto",
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Tell how the trained cells of SUITE weigh places by their attention: the gates of every stage, over all places of all images.

    SD within is over the places of one image. Gates of SD 0 weigh no place more than another; those of `2sigmoid` lie between 0 and 2,
    and 1 leaves a feature as it is. --out draws the gates over what the detector sees. Cells without attention, as all baselines are,
    cells that aren't trained yet, and programs, are left out and named.
    """
    from harness.inference.detector import chosen_device
    from harness.prediction.attention import attention_gates
    from harness.prediction.attention_sheet import draw_attention
    from harness.prediction.frames import pictures_of
    from harness.prediction.sources import find_images
    from harness.prediction.trained import first_of, left_out_note, refuse_untrained, trained_cells
    from harness.report.terminal import show
    from harness.suite import Choice

    sources = find_images(images)
    trained, left_out = trained_cells(suite, results, Choice(seeds, only or (), skip or (), tier))
    if not trained:
        refuse_untrained(suite, results)
    chosen = chosen_device(device)
    found: dict[str, list[StageGates]] = {}
    without = []
    with Console(stderr=True).status("") as status:
        for one in trained:
            status.update(one.cell.id)
            detector = one.detector()
            pictures = pictures_of(detector, sources, crop)
            gates = attention_gates(detector, pictures, device=chosen)
            if not gates:
                without.append(one.cell.id)
                continue
            found[one.cell.id] = gates
            if out is not None:
                draw_attention(out / f"{one.cell.id}.png", one.cell.id, pictures, gates)
    if not found:
        raise InputError(
            f"{suite}: no trained cell has attention ({first_of(without)} hasn't); choose others with --only"
        )
    if as_json:
        facts = {
            "suite": suite,
            "images": [str(source.path) for source in sources],
            "out": None if out is None else str(out),
            "cells": {name: [stage_object(stage) for stage in gates] for name, gates in found.items()},
            "without": without,
            "left_out": left_out,
        }
        typer.echo(json.dumps(facts))
        return
    table, console = table_of(found, len(sources)), Console()
    say(console, table.title)
    show(table, range(table.text_columns, len(table.header)), console)
    if out is not None:
        typer.echo(f"wrote {counted(len(found), 'picture')} to {out}")
    if without:
        typer.echo(f"without attention, so left out: {first_of(without)}", err=True)
    if left_out:
        typer.echo(left_out_note(left_out), err=True)


def stage_object(gates: StageGates) -> dict[str, Any]:
    """A stage and its figures, for JSON."""
    from harness.prediction.attention import evenness

    height, width = gates.maps.shape[1:]
    grid = {"height": height, "width": width, "highest": gates.highest}
    return {"stage": gates.stage, **grid, **asdict(evenness(gates))}


def table_of(found: Mapping[str, Sequence[StageGates]], images: int) -> Table:
    """A row a cell and stage."""
    from harness.prediction.attention import evenness
    from harness.report.table import Table

    rows = []
    for name, stages in found.items():
        for gates in stages:
            figures = (f"{value:.3f}" for value in asdict(evenness(gates)).values())
            rows.append((name, gates.stage, *figures, f"{gates.highest:g}"))
    return Table(f"gates over {counted(images, 'image')}", HEADER, tuple(rows), 2)
