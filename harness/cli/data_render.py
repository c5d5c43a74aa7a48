"""`samiro-bench data render`: a road dataset made here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

SHORT_CLIP = 4
"""Frames of a clip unless one says how many: enough to see that they share a scene."""

EPILOG = "Example: samiro-bench data render roads --train 360 --val 60 --test 180 --difficulty 0.5"


def render(
    out: Annotated[Path, typer.Argument(help="A folder that doesn't exist yet.")],
    train: Annotated[int, typer.Option(min=0)] = 360,
    val: Annotated[int, typer.Option(min=0)] = 60,
    test: Annotated[int, typer.Option(min=0)] = 180,
    form: Annotated[str, typer.Option(help="culane, tusimple or llamas.")] = "culane",
    frames_per_clip: Annotated[
        int | None, typer.Option(min=1, help="Frames that share a scene; TuSimple's clips have one labelled frame.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=64, help="Up to 3600; the form's unless given, and fixed but for culane.")
    ] = None,
    height: Annotated[
        int | None, typer.Option(min=64, help="Up to 3600; the form's unless given, and fixed but for culane.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    difficulty: Annotated[float, typer.Option(min=0.0, max=1.0)] = 0.5,
    unlabelled_frames: Annotated[
        bool,
        typer.Option("--unlabelled-frames", help="Render also the 19 frames before each labelled one of TuSimple."),
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option(help="A JPEG to write: frames of every scenario with their labels.")
    ] = None,
) -> None:
    """Render a road dataset in the format of CULane, TuSimple or LLAMAS at OUT."""
    from harness.files.validation import validated
    from harness.files.whole import refuse_existing
    from harness.processes.limits import available_cores
    from harness.rendered.dataset import render_dataset
    from harness.rendered.sheet import write_rendered_sheet
    from harness.rendered.spec import RenderSpec
    from harness.report.text import counted

    refuse_existing(out)
    length = frames_per_clip or (None if form == "tusimple" else SHORT_CLIP)
    per_clip = {} if length is None else {"frames_per_clip": length}
    splits = {
        name: {"frames": frames, **per_clip}
        for name, frames in (("train", train), ("val", val), ("test", test))
        if frames
    }
    size = {key: value for key, value in (("width", width), ("height", height)) if value is not None}
    values = {"form": form, **size, "seed": seed, "difficulty": difficulty, "splits": splits}
    values |= {"unlabelled_frames": unlabelled_frames}
    spec = validated(RenderSpec, values, where="data render")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("rendering", total=None)
        render_dataset(
            spec,
            out,
            workers=available_cores(),
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    typer.echo(f"wrote {counted(train + val + test, 'frame')} to {out}")
    if sheet is not None:
        write_rendered_sheet(sheet, out, spec)
        typer.echo(f"wrote {sheet}")
