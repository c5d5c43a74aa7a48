"""`samiro-bench data masks`: labels from instance masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Crop

EPILOG = "Example: samiro-bench data masks frames six --masks gt_instance_{name}.png"


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
    from harness.report.text import counted

    labels = write_culane_labels(find_masks(images, pattern), out, part=crop)
    typer.echo(f"wrote {counted(len(labels), 'image')} with {counted(sum(map(len, labels)), 'lane')} to {out}")
