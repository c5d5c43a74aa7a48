"""The geometry of TuSimple labels, and of the real ones: what the TuSimple form is calibrated on.

`python -m harness.rendered.calibration` prints rendered beside real.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from harness.lanes import Lane
from harness.rendered.dataset import plan_clips
from harness.rendered.spec import RenderSpec, SplitSpec
from harness.rendered.tusimple_form import clip_labels

Array = npt.NDArray[np.float64]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

REAL: dict[str, tuple[float, float, float, float, float]] = {
    "topmost row": (220, 250, 260, 270, 280),
    "vanishing row": (221, 232, 238, 244, 253),
    "ego width at row 720, px": (988, 1052, 1073, 1096, 1155),
    "visible rows of a lane": (110, 170, 400, 450, 480),
    "quadratic coefficient, px per (100 rows)^2": (-14.4, -0.6, 0.0, 0.8, 13.7),
}
"""Quantiles over the 6,407 frames of the real labels, test set and training set."""

REAL_LANES: dict[str, dict[int, float]] = {
    "train": {3: 0.11, 4: 0.82, 5: 0.07},
    "test": {3: 0.63, 4: 0.17, 5: 0.20},
}
"""Shares of the number of lanes a frame, as the files and the official evaluator count them: with lanes that have no point, of which
the training set has many (without them: 3: 26 %, 4: 68 %)."""

ROW_STEP = 10
LOWER_ROWS = 150
"""The line through a lane's lower rows, from which vanishing row and ego width are taken, is fitted to this many."""
MIDDLE = 640.0
FEWEST_FOR_A_CURVE = 20


def quantiles(frames: Iterable[Sequence[Lane]]) -> dict[str, Array]:
    """The quantities of `REAL` over the labels of frames of 1280x720, at `QUANTILES`.

    The vanishing row is where the lines through the lower parts of the two lanes next to column 640 (at row 720) meet. The quadratic
    coefficient is that of a fit of x over the rows of lanes with 20 points or more.
    """
    values: dict[str, list[float]] = {name: [] for name in REAL}
    top, vanishing, width, visible, bend = (values[name] for name in REAL)
    for lanes in frames:
        fits = []
        for lane in lanes:
            if len(lane) < 2:
                continue
            x, y = lane.points.astype(np.float64).T
            visible.append(ROW_STEP * len(lane))
            if len(lane) >= FEWEST_FOR_A_CURVE:
                bend.append(float(np.polyfit((y - y.mean()) / 100, x, 2)[0]))
            lower = y >= y.max() - LOWER_ROWS
            slope, foot = np.polyfit(y[lower], x[lower], 1)
            fits.append((slope * 720 + foot, slope, foot))
        if fits:
            top.append(float(min(lane.points[:, 1].min() for lane in lanes if len(lane) > 1)))
        fits.sort()
        for left, right in pairwise(fits):
            if left[0] < MIDDLE <= right[0] and left[1] != right[1]:
                width.append(right[0] - left[0])
                vanishing.append((right[2] - left[2]) / (left[1] - right[1]))
    return {name: np.quantile(found, QUANTILES) for name, found in values.items()}


def lanes_a_frame(frames: Sequence[Sequence[Lane]]) -> dict[int, float]:
    """Number of lanes -> share of the frames."""
    return {count: number / len(frames) for count, number in sorted(Counter(map(len, frames)).items())}


def rendered_labels(frames: int, *, seed: int = 0) -> dict[str, list[list[Lane]]]:
    """Split -> labels of frames, training and test frames in the real proportion of 3,625 to 2,782. Nothing is drawn."""
    train = round(frames * 3625 / 6407)
    splits = {"train": SplitSpec(frames=train), "test": SplitSpec(frames=frames - train)}
    spec = RenderSpec(form="tusimple", seed=seed, difficulty=0.5, splits=splits)
    found: dict[str, list[list[Lane]]] = {split: [] for split in splits}
    for clip in plan_clips(spec):
        found[clip.split].append(clip_labels(clip, spec))
    return found


def table(frames: int) -> str:
    """Rendered and real quantiles as a Markdown table."""
    labels = rendered_labels(frames)
    rows = [f"| | {' | '.join(f'{100 * q:g} %' for q in QUANTILES)} |", f"|---|{'--:|' * len(QUANTILES)}"]
    for name, found in quantiles(labels["train"] + labels["test"]).items():
        rows.append(f"| {name}: real | {' | '.join(f'{value:g}' for value in REAL[name])} |")
        digits = 1 if "quadratic" in name else 0
        rows.append(f"| rendered | {' | '.join(f'{value:.{digits}f}' for value in found)} |")
    for split, shares in REAL_LANES.items():
        found_shares = lanes_a_frame(labels[split])
        counts = ", ".join(f"{n}: {100 * shares[n]:.0f} % and {100 * found_shares.get(n, 0):.0f} %" for n in shares)
        rows.append(f"\nLanes a frame in {split}, real and rendered: {counts}.")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table(3000))
