"""Simulated test sets and detectors: true and false positives image by image, with a known truth behind them.

An image belongs to a clip and has up to four lanes. Whether a lane is found is a coin whose logit is the sum of how easy the clip and
the image are (the same for everybody) and of what is the arm's own: its taste for the clip, the luck of its training seed, and of that
seed on that clip. A false lane turns up with odds that follow the arm's own part. Two arms drawn alike differ by 0 in expectation,
whatever seeds and clips vary by.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.report.estimates import Estimates, difference, f1_estimates
from harness.report.statistics import Comparison, compare

LANES = 4
LABELLED = (0.1, 0.05, 0.15, 0.3, 0.4)
"""Shares of images with 0 to 4 labelled lanes; about one in ten of CULane's has none."""

EASE, EASE_OF_CLIPS, EASE_OF_IMAGES = 1.6, 0.8, 0.5
"""Logits: mean and standard deviations of how easily lanes are found, everybody's part."""

FALSE_LANES = -1.2
"""Logit of a false lane in an image."""

Sizes = Literal["even", "uneven", "very uneven", "of TuSimple's sizes"]
"""How many images the clips of a test set have: see `sizes_of_clips`."""

TUSIMPLE = (
    668, 373, 314, 229, 147, 147, 121, 107, 96, 96, 49, 32, 28, 27, 24, 23, 20, 18, 17, 13, 12, 11, 9, *[8] * 3, *[7] * 2, *[6] * 2,
    *[5] * 6, *[4] * 7, *[3] * 9, *[2] * 20, *[1] * 26,
)  # fmt: skip
"""Labelled frames of each of the 98 clips of TuSimple's test set, counted in its test_label.json; they weigh as 9.3 equal ones."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Mix:
    """Standard deviations, in logits, of what is an arm's own: its seeds, its clips, and both together."""

    name: str
    seed: float
    clip: float
    interaction: float


@dataclass(frozen=True)
class Setting:
    """One kind of benchmark: S seeds, C clips, and what its arms vary by."""

    seeds: int
    clips: int
    sizes: Sizes
    mix: Mix


OF_60 = (
    Mix("seeds", 0.12, 0.13, 0.11),
    Mix("clips", 0.045, 0.38, 0.12),
    Mix("interaction", 0.037, 0.09, 0.45),
    Mix("all alike", 0.073, 0.21, 0.32),
)
OF_500 = (
    Mix("seeds", 0.063, 0.25, 0.10),
    Mix("clips", 0.026, 0.72, 0.10),
    Mix("interaction", 0.02, 0.17, 0.59),
    Mix("all alike", 0.032, 0.32, 0.35),
)
"""By which part dominates: at 3 seeds it is 70 to 80 % of the variance of a mean difference, and the others are 10 to 20 % each."""

GRID = (
    *(Setting(seeds, 60, "uneven", mix) for seeds, mix in itertools.product((3, 5), OF_60)),
    *(Setting(seeds, 500, "even", mix) for seeds, mix in itertools.product((3, 5), OF_500)),
)
"""The sixteen settings in which the procedure must hold what it claims."""

FEW_CLIPS = tuple(
    Setting(seeds, clips, "uneven", mix) for seeds, clips, mix in itertools.product((3, 5), (10, 25, 49), OF_60)
)
"""Scenarios with few clips."""

ONE_SEED = (
    *(Setting(1, clips, "uneven", replace(mix, seed=0.0)) for clips, mix in itertools.product((12, 60), OF_60[1:3])),
    *(Setting(1, 500, "even", replace(mix, seed=0.0)) for mix in OF_500[1:3]),
)
"""One seed, whose networks are held fixed: the seeds' own part is left out, so that the truth stays the same."""

CLIPS_ALONE = Mix("clips alone", 0.01, 0.60, 0.05)
CLIPS_OF_REAL_SETS: tuple[tuple[int, Sizes], ...] = (
    (400, "uneven"),
    (60, "uneven"),
    (98, "very uneven"),
    (98, "of TuSimple's sizes"),
)
UNEVEN_CLIPS = tuple(
    Setting(5, *clips, mix) for mix, clips in itertools.product((OF_60[3], OF_60[1], CLIPS_ALONE), CLIPS_OF_REAL_SETS)
)
"""Beyond the grid: clips that are all that matters, and clips as uneven as TuSimple's."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """One simulated row: the paired difference of two arms, and what the leaderboard makes of it."""

    paired: Estimates
    comparison: Comparison


def draw(rng: np.random.Generator, setting: Setting, rows: int, gain: float = 0.0) -> list[Drawn]:
    """Score `rows` pairs of arms on one newly drawn test set; every method finds lanes `gain` logits more easily than its baseline."""
    images = sizes_of_clips(rng, setting)
    labelled = rng.choice(LANES + 1, size=int(images.sum()), p=LABELLED)
    labelled[0] = LANES
    clip = np.repeat(np.arange(setting.clips), images)
    ease = EASE + EASE_OF_CLIPS * rng.normal(size=setting.clips)[clip] + EASE_OF_IMAGES * rng.normal(size=len(clip))
    own = (
        setting.mix.clip * rng.normal(size=(2 * rows, 1, setting.clips))
        + setting.mix.seed * rng.normal(size=(2 * rows, setting.seeds, 1))
        + setting.mix.interaction * rng.normal(size=(2 * rows, setting.seeds, setting.clips))
    )
    own[::2] += gain
    true, false = positives(rng, ease.astype(np.float32), own.astype(np.float32)[:, :, clip], labelled)
    starts = np.concatenate([[0], np.cumsum(images)[:-1]])
    found, spurious = (np.add.reduceat(counts, starts, axis=-1, dtype=np.int64) for counts in (true, false))
    labels = np.add.reduceat(labelled, starts)
    arms = [scored(found[arm], labels, spurious[arm], images) for arm in range(2 * rows)]
    return [
        Drawn(difference(method, base), compare(method, base))
        for method, base in zip(arms[::2], arms[1::2], strict=True)
    ]


def sizes_of_clips(rng: np.random.Generator, setting: Setting) -> Integers:
    """Images of each clip (C,), at least one.

    even: Poisson. uneven: from 10 on with Pareto's tail of index 2.5; their standard deviation is about .9 of their mean, where it is
    .74 for CULane's test set and .66 to 2.7 within its scenarios. very uneven: lognormal, so that 98 weigh as about 13 equal ones.
    """
    if setting.sizes == "of TuSimple's sizes":
        return np.array(TUSIMPLE)
    if setting.sizes == "even":
        return 1 + rng.poisson(7, setting.clips)
    if setting.sizes == "uneven":
        return 10 + np.floor(20 * rng.pareto(2.5, setting.clips)).astype(np.int64)
    return 1 + np.floor(rng.lognormal(1.1, 1.9, setting.clips)).astype(np.int64)


def positives(
    rng: np.random.Generator,
    ease: npt.NDArray[np.float32],
    own: npt.NDArray[np.float32],
    labelled: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """True and false positives of every image, (arms, S, images). ease: (images,); own: (arms, S, images). Both in logits."""
    draws = rng.random((*own.shape, LANES + 1), dtype=np.float32)
    missing = np.exp(-own)
    odds = (1 + np.exp(-ease) * missing)[..., None]
    found = (draws[..., :LANES] * odds < 1) & (np.arange(LANES) < labelled[:, None])
    spurious = draws[..., LANES] * (1 + np.float32(np.exp(-FALSE_LANES)) / missing) < 1
    return found.sum(axis=-1, dtype=np.int8), spurious.astype(np.int8)


def scored(found: Integers, labels: Integers, spurious: Integers, images: Integers) -> Estimates:
    """F1 of one arm over its seeds, from sums by clip."""
    estimates = f1_estimates(found, labels, found + spurious, images)
    assert estimates is not None
    return estimates
