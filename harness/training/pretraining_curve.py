"""The loss of a pre-training as a picture, against what scores without having learned anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.files.stored import written_aside
from harness.methods.card import Reconstruction

WINDOW = 100
"""The curve is a moving mean over a hundredth of the steps, or over so many steps if that is less."""


def draw_curve(path: Path, losses: npt.NDArray[np.float32], reconstruction: Reconstruction, title: str) -> None:
    """Write a PNG: the training loss over steps, and on held-out images the error of the model, of the patches' means, of inpainting.

    losses: of each step, in the units of `Reconstruction.normalised`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = max(1, min(WINDOW, len(losses) // 100))
    smooth = np.convolve(losses, np.full(width, 1 / width), mode="valid")
    steps = np.arange(width, len(losses) + 1)
    axes.plot(
        steps, smooth, color="tab:blue", label=f"training loss (mean of {width})" if width > 1 else "training loss"
    )
    levels = (
        ("held out, reconstructed", reconstruction.normalised, "tab:blue", "--"),
        ("held out, patches' means", reconstruction.normalised_mean, "tab:gray", ":"),
        ("held out, inpainting", reconstruction.normalised_fill, "tab:orange", ":"),
    )
    for name, level, colour, style in levels:
        if level is not None:
            axes.axhline(level, color=colour, linestyle=style, label=f"{name}: {level:.3f}")
    axes.set(xlabel="step", ylabel="squared error, normalised pixels of hidden units", title=title)
    axes.set_ylim(bottom=0, top=1.05 * max(float(smooth.max()), 1.0, reconstruction.normalised_fill or 0.0))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    with written_aside(path) as aside:
        figure.savefig(aside, format="png", metadata={"Software": None})
