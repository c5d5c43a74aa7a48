"""The gate of an oracle: do its frozen features tell where lanes are better than those of a network as it was drawn?

A linear probe (a 1x1 convolution) a tap is fitted to lane / no-lane cells of labelled training images and judged on others, of other
clips, by average precision. The test split is never looked at. Both networks see the same images, cells and solver.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from detectors.base import normalise
from harness.datasets.base import Dataset, Frame
from harness.datasets.images import read_image, read_size
from harness.errors import InputError
from harness.files.scratch import scratch_folder
from harness.lanes import Lane
from harness.methods.config import OracleConfiguration
from harness.methods.oracle import Oracle, drawn_backbone, load_oracle, oracle_taps
from harness.methods.registration import Grid
from harness.methods.timm_networks import TimmOracle, drawn_timm_oracle
from harness.training.pretraining import pretrain
from harness.training.pretraining_images import evenly_spread, held_out_split, resized

SEEDS = (0, 1, 2)
"""Of the networks that are left as drawn, and of the cells that are looked at."""

IMAGES = 240
"""Labelled images, evenly over the training split; a third of their clips judges."""

JUDGING_SHARE = 1 / 3

CELLS = 20_000
"""Cells of a tap that a probe is fitted to, and as many that it is judged on, drawn evenly."""

DECAY = 1e-4
"""Of the probe's weights (half the squared norm), on features of mean 0 and variance 1, so that it converges where classes part."""

ITERATIONS = 60
"""Of L-BFGS with a strong Wolfe line search."""

CHECK = "frozen probes beat a drawn network over 3 seeds"
"""How a card calls the gate."""

BATCH = 16


@dataclass(frozen=True, eq=False)
class Labelled:
    """Frames at the size at which they are looked at, and their lanes in pixels of the same."""

    images: Tensor
    lanes: tuple[tuple[Lane, ...], ...]
    judging: tuple[int, ...]

    @property
    def judges(self) -> Tensor:
        """Which frames probes are judged on, bool; to the others they are fitted."""
        marks = torch.zeros(len(self.images), dtype=torch.bool)
        marks[list(self.judging)] = True
        return marks


def probe_gate(
    oracle: Oracle,
    counterpart: Callable[[int], Oracle],
    labelled: Labelled,
    *,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Average precision of the probes on each tap of the oracle and of its counterparts, and whether the gate is passed.

    counterpart: gives the same network with the weights that a seed draws. It is passed where the mean over taps is above the
    counterpart's with every seed.
    """
    if progress is not None:
        progress(0, len(SEEDS))
    own = precisions(oracle.to(device), labelled, SEEDS)
    found = {
        tap.path: {"oracle": values, "random": list[float]()} for tap, values in zip(oracle.taps, own, strict=True)
    }
    for done, seed in enumerate(SEEDS):
        if progress is not None:
            progress(done, len(SEEDS))
        for tap, values in zip(oracle.taps, precisions(counterpart(seed).to(device), labelled, (seed,)), strict=True):
            found[tap.path]["random"] += values
    means = {name: np.mean([values[name] for values in found.values()], axis=0) for name in ("oracle", "random")}
    return {
        "images": len(labelled.images),
        "seeds": list(SEEDS),
        "average_precision": found,
        "means": {name: [float(value) for value in values] for name, values in means.items()},
        "passed": bool((means["oracle"] > means["random"]).all()),
    }


def drawn(configuration: OracleConfiguration, images: Sequence[Path], seed: int, device: torch.device) -> Oracle:
    """A backbone of ours with the weights of a seed, batch normalisation fitted to the images, as a `random:` oracle is made."""
    given = configuration.model_dump(exclude={"name", "file", "seed"})
    untrained = OracleConfiguration(name=f"random:{configuration.backbone}", seed=seed, **given)
    with scratch_folder() as folder:
        out = folder / "random.safetensors"
        pretrain(untrained, images, out=out, device=device)
        return load_oracle(out)


def drawn_like(oracle: Oracle, backbone: str, labelled: Labelled, seed: int, device: torch.device) -> Oracle:
    """The network of an oracle of any kind with the weights of a seed, its batch normalisation fitted to the frames of the probes.

    backbone: what one of ours is called; timm's networks know their own name.
    """
    if isinstance(oracle, TimmOracle):
        like: Oracle = drawn_timm_oracle(oracle.name, seed)
    else:
        network = drawn_backbone(backbone, seed)
        like = Oracle(network, oracle_taps(network), oracle.normalisation)
    like.to(device)
    fitting = labelled.images[~labelled.judges]
    # Shared out evenly: a network that pools its maps to a cell can't be fitted to a last batch of a single frame.
    batches = torch.tensor_split(fitting, math.ceil(len(fitting) / BATCH))
    update_bn((normalise(batch.to(device), oracle.normalisation) for batch in batches), like.backbone)
    return like


def labelled_frames(dataset: Dataset, size: tuple[int, int]) -> Labelled:
    """At most IMAGES labelled frames of the training split at `size`. InputError where none has a lane, or they are too few."""
    frames: Sequence[Frame] = dataset.frames("train")
    frames = [frames[index] for index in evenly_spread(range(len(frames)), IMAGES)]
    _, judging = held_out_split([frame.clip for frame in frames], JUDGING_SHARE, len(frames))
    if (fitting := len(frames) - len(judging)) < 2:
        raise InputError(
            f"{dataset.root}: {len(frames)} training images are too few for probes: {fitting} of them would be left to fit one to; "
            "give more, of several clips"
        )
    shown, lanes = [], []
    for frame in frames:
        height, width = read_size(frame.image)
        scale = np.array([size[1] / width, size[0] / height], np.float64)
        shown.append(resized(read_image(frame.image), size))
        # Outer edges lie on outer edges.
        lanes.append(
            tuple(Lane(((lane.points + 0.5) * scale - 0.5).astype(np.float32)) for lane in dataset.lanes(frame))
        )
    if not any(lanes):
        raise InputError(f"{dataset.root}: no training image has a lane: give a dataset with labels")
    pixels = torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2).contiguous()
    return Labelled(pixels, tuple(lanes), tuple(judging))


def precisions(oracle: Oracle, labelled: Labelled, seeds: Sequence[int]) -> list[list[float]]:
    """Average precision of probes on the judging frames: a list a tap, a number a seed, which draws the cells.

    The oracle looks once at each frame, and of what it sees only the drawn cells are kept: whole maps of 240 frames take gigabytes.
    """
    height, width = labelled.images.shape[2:]
    device = next(oracle.parameters()).device
    drawn_cells = [[cells_of(labelled, grid, seed) for seed in seeds] for grid in oracle.grids((height, width))]
    for first in range(0, len(labelled.images), BATCH):
        features = oracle(labelled.images[first : first + BATCH].to(device))
        for feature, of_tap in zip(features, drawn_cells, strict=True):
            rows = feature.float().cpu().permute(0, 2, 3, 1).flatten(1, 2)
            for cells in chain.from_iterable(of_tap):
                cells.take(rows, first)
    return [
        [average_precision(*scores_of(fitted.rows(), judged.rows())) for fitted, judged in of_tap]
        for of_tap in drawn_cells
    ]


@dataclass(eq=False)
class Cells:
    """Cells of a tap's map that were drawn, (N,): of which frame and where in it, whether a lane passes, and in time their features."""

    frames: Tensor
    places: Tensor
    marks: Tensor
    features: Tensor | None = None

    def take(self, rows: Tensor, first: int) -> None:
        """Keep what is asked for of some frames' features (frames, places, channels), the first of which is number `first`."""
        if self.features is None:
            self.features = rows.new_zeros(len(self.frames), rows.shape[2])
        here = (self.frames >= first) & (self.frames < first + len(rows))
        self.features[here] = rows[self.frames[here] - first, self.places[here]]

    def rows(self) -> tuple[Tensor, Tensor]:
        """(N, channels) features, and (N,) 1 where a lane passes, else 0."""
        assert self.features is not None
        return self.features, self.marks


def cells_of(labelled: Labelled, grid: Grid, seed: int) -> tuple[Cells, Cells]:
    """At most CELLS cells each, drawn evenly: those that a probe is fitted to, and those of the judging frames.

    Raises InputError where a lane passes through none or all of either: average precision would be 0 or 100 %, whatever the oracle is.
    """
    labels = torch.from_numpy(np.stack([lane_cells(lanes, grid) for lanes in labelled.lanes])).flatten(1)
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for part, what in ((~labelled.judges, "fitted to"), (labelled.judges, "judged on")):
        numbers = part.nonzero().flatten()
        drawn = torch.randperm(len(numbers) * labels.shape[1], generator=generator)[:CELLS]
        frames, places = numbers[drawn // labels.shape[1]], drawn % labels.shape[1]
        marks = labels[frames, places]
        if marks.all() or not marks.any():
            raise InputError(
                f"a lane passes through {'all' if marks.any() else 'none'} of the {len(marks)} cells of {grid.rows.stride:g} px that a "
                f"probe is {what}: give a dataset with more labelled training images, or look at them larger"
            )
        parts.append(Cells(frames, places, marks.float()))
    return parts[0], parts[1]


def scores_of(fitted: tuple[Tensor, Tensor], judged: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The scores of a logistic regression on the cells that it is judged on, and their labels."""
    features, labels = fitted
    mean, deviation = features.mean(0), features.std(0).clamp_min(1e-6)
    inputs = (features - mean) / deviation
    weights = torch.zeros(features.shape[1] + 1, requires_grad=True)
    solver = torch.optim.LBFGS([weights], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = functional.binary_cross_entropy_with_logits(inputs @ weights[:-1] + weights[-1], labels)
        value = value + 0.5 * DECAY * weights[:-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return (judged[0] - mean) / deviation @ weights[:-1], judged[1]


def average_precision(scores: Tensor, labels: Tensor) -> float:
    """The mean over positives of the precision down to each; 0 where there is none."""
    ranked = labels[scores.argsort(descending=True)].double()
    precision = ranked.cumsum(0) / torch.arange(1, len(ranked) + 1, dtype=torch.float64)
    return float((precision * ranked).sum() / ranked.sum().clamp_min(1.0))


def lane_cells(lanes: Sequence[Lane], grid: Grid) -> npt.NDArray[np.bool_]:
    """Which cells of a grid a lane passes through, (rows, columns): those whose centre is nearest to some point of it."""
    cells = np.zeros(grid.shape, bool)
    for lane in lanes:
        points = dense(lane.points)
        columns = np.rint((points[:, 0] - grid.columns.offset) / grid.columns.stride).astype(int)
        rows = np.rint((points[:, 1] - grid.rows.offset) / grid.rows.stride).astype(int)
        inside = (rows >= 0) & (rows < grid.rows.count) & (columns >= 0) & (columns < grid.columns.count)
        cells[rows[inside], columns[inside]] = True
    return cells


def dense(points: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """A polyline's points so close that none of its pixels is passed over."""
    if len(points) < 2:
        return points.astype(np.float64)
    steps = np.maximum(1, np.ceil(np.abs(np.diff(points, axis=0)).max(1)).astype(int))
    parts = [
        np.linspace(a, b, count, endpoint=False) for a, b, count in zip(points[:-1], points[1:], steps, strict=True)
    ]
    return np.concatenate([*parts, points[-1:]]).astype(np.float64)
