"""One page of what a detector's attention does: a row a picture, a column a stage, gates as colours over the grey picture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.files.stored import written_aside
from harness.prediction.attention import StageGates, evenness
from harness.prediction.frames import Picture

DRAWN_PICTURES = 12
"""Rows at most: the first pictures. Figures are of all of them."""

TILE_WIDTH = 3.2
"""Inches, of one picture."""

BAR_HEIGHT = 0.5
"""Inches, of the scale of colours with its words."""

OPACITY = 0.6
"""Of the colours, through which the road is to be seen."""


def draw_attention(path: Path, title: str, pictures: Sequence[Picture], stages: Sequence[StageGates]) -> None:
    """Write a PNG: of the first pictures what the detector sees, then the same under the gates of each stage, with their mean and SD.

    All stages have one scale of colours, from 0 to the highest gate, so that even gates look even; in the middle, for gates up to 2,
    stands 1, which leaves a feature as it is. pictures and stages: at least one of each, and stages hold the gates of these pictures.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = pictures[:DRAWN_PICTURES]
    height, width = shown[0].view.shape[1:]
    tile_height = TILE_WIDTH * height / width
    size = (TILE_WIDTH * (1 + len(stages)), 0.5 + BAR_HEIGHT + (tile_height + 0.1) * len(shown))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(shown), 1 + len(stages), squeeze=False)
    more = f", first {len(shown)} of {len(pictures)} pictures" if len(shown) < len(pictures) else ""
    figure.suptitle(textwrap.fill(f"{title}{more}", 120), fontsize=9)
    edges = (-0.5, width - 0.5, height - 0.5, -0.5)
    for row, (picture, axes) in enumerate(zip(shown, grid, strict=True)):
        for axis in axes:
            axis.set(xticks=[], yticks=[])
        axes[0].imshow(np.moveaxis(picture.view, 0, -1))
        axes[0].set_ylabel(textwrap.shorten(picture.name[-24:], 24), fontsize=6)
        for axis, stage in zip(axes[1:], stages, strict=True):
            axis.imshow(picture.view.mean(0), cmap="gray", vmin=0, vmax=255)
            colours = axis.imshow(
                stage.maps[row], cmap="coolwarm", vmin=0, vmax=stage.highest, alpha=OPACITY, extent=edges
            )
            axis.set(xlim=edges[:2], ylim=edges[2:])
    for axis, stage in zip(grid[0, 1:], stages, strict=True):
        spread = evenness(stage)
        axis.set_title(f"{stage.stage}: {spread.mean:.2f}, SD {spread.sd:.2f}", fontsize=8)
    figure.colorbar(
        colours, ax=grid, orientation="horizontal", shrink=0.4, aspect=40, fraction=BAR_HEIGHT / size[1], label="gate"
    )
    with written_aside(path) as aside:
        figure.savefig(aside, format="png", metadata={"Software": None})
