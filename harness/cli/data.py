"""`samiro-bench data`: datasets that the harness makes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from harness.cli import data_convert, data_doctor, data_index
from harness.cli.options import Crop

app = typer.Typer(
    add_completion=False,
    help="Datasets: render them, make labels from masks, examine, index and convert them.",
)


@app.callback()
def data() -> None:
    """Keep `render` a command of its own, whatever joins it."""


app.command(epilog=data_doctor.EPILOG)(data_doctor.doctor)
app.command(epilog=data_index.EPILOG)(data_index.index)
app.command(epilog=data_convert.EPILOG)(data_convert.convert)


@app.command(epilog="Example: samiro-bench data render roads --train 360 --val 60 --test 180 --difficulty 0.5")
def render(
    out: Annotated[Path, typer.Argument(help="A folder that doesn't exist yet.")],
    train: Annotated[int, typer.Option(min=0)] = 360,
    val: Annotated[int, typer.Option(min=0)] = 60,
    test: Annotated[int, typer.Option(min=0)] = 180,
    frames_per_clip: Annotated[int, typer.Option(min=1)] = 4,
    width: Annotated[int, typer.Option(min=64)] = 1640,
    height: Annotated[int, typer.Option(min=64)] = 590,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    difficulty: Annotated[float, typer.Option(min=0.0, max=1.0)] = 0.5,
) -> None:
    """Render a road dataset in CULane's format at OUT."""
    from harness.environment import available_cores
    from harness.errors import InputError
    from harness.rendered.dataset import render_dataset
    from harness.rendered.spec import RenderSpec
    from harness.validation import validated

    if out.exists():
        raise InputError(f"{out}: exists already; give a folder that doesn't, or move that one away")
    splits = {
        name: {"frames": frames, "frames_per_clip": frames_per_clip}
        for name, frames in (("train", train), ("val", val), ("test", test))
        if frames
    }
    values = {"width": width, "height": height, "seed": seed, "difficulty": difficulty, "splits": splits}
    spec = validated(RenderSpec, values, where="data render")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("rendering", total=None)
        render_dataset(
            spec,
            out,
            workers=available_cores(),
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    typer.echo(f"wrote {train + val + test} frames to {out}")


@app.command(epilog="Example: samiro-bench data masks frames six --masks gt_instance_{name}.png")
def masks(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="The folder of the images.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that doesn't exist yet.")],
    pattern: Annotated[
        str,
        typer.Option("--masks", metavar="PATTERN", help="A mask's path from IMAGES, {name} being its image's name."),
    ] = "gt_instance_{name}.png",
    crop: Crop = None,
) -> None:
    """Turn images and instance masks (a grey value a lane) into a dataset in CULane's format, to predict and score on.

    Images without a mask are left out; images and lanes are stretched to 1640x590, the frame of CULane's metric.
    """
    from harness.datasets.instance_masks import find_masks, write_culane_labels

    labels = write_culane_labels(find_masks(images, pattern), out, part=crop)
    typer.echo(f"wrote {len(labels)} images with {sum(map(len, labels))} lanes to {out}")
