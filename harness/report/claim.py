"""A claim by itself: does one detector score higher than another by more than seeds and clips vary? From counts, without a matrix.

What a leaderboard says of a gain, of any two sets of predictions: one difference in the headline score has a verdict, the others
intervals (`harness.report.statistics`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import InputError
from harness.records.counts import Counts
from harness.report.columns import Column, arm_estimates, columns_of
from harness.report.rows import Difference, Score, differences_of, score_over_seeds
from harness.report.statistics import (
    detectable_difference,
    effective_clips,
    p_value,
    verdict,
    why_no_verdict,
)
from harness.report.sums import counts_digest, layout_of, sums_of


@dataclass(frozen=True, eq=False)
class Claim:
    """The scores of a method and of a baseline over pairs of trainings, one a column (None: undefined), and their differences.

    p, verdict, detectable: of the first column, as in `harness.report.rows.Gain`; no other claim is adjusted for. effective_clips: how
    many equal clips weigh as much as these.
    """

    columns: tuple[Column, ...]
    baseline: tuple[Score | None, ...]
    method: tuple[Score | None, ...]
    differences: tuple[Difference | None, ...]
    pairs: int
    images: int
    clips: int
    effective_clips: float
    p: float | None
    verdict: str
    detectable: float | None


def copies_among(counts: Sequence[Counts]) -> dict[int, int]:
    """Place of counts -> place of the first that are the same in every image, lanes predicted; most often copies of one file."""
    first: dict[tuple[bytes, ...], int] = {}
    copies = {}
    for place, one in enumerate(counts):
        key = tuple(values.tobytes() for values in one.summands().values())
        if one.predictions.any() and first.setdefault(key, place) != place:
            copies[place] = first[key]
    return copies


def claim_of(baseline: Sequence[Counts], method: Sequence[Counts]) -> Claim:
    """Compare as many trainings of a method as of a baseline, the first of each with the first of the other and so on.

    All counts are of one kind and of the same images in the same order; InputError where they aren't, or where there is no image.
    """
    every = [*baseline, *method]
    digests = {counts_digest(counts) for counts in every}
    if len(digests) != 1 or not len(every[0].image):
        raise InputError(
            "the predictions that are compared aren't all of the same images: give the same images to each"
        )
    layout = layout_of(every[0], digests.pop())
    columns = columns_of(type(every[0]), layout.scenarios)
    theirs, ours = (arm_estimates(columns, [sums_of(counts, layout) for counts in arm]) for arm in (baseline, method))
    differences = differences_of(ours, theirs)
    comparison = None if differences[0] is None else differences[0].comparison
    p = None if comparison is None else p_value(comparison)
    if comparison is None or p is None:
        told = "no verdict: no labels" if comparison is None else why_no_verdict(comparison) or ""
    else:
        told = verdict(comparison, p)
    return Claim(
        columns=columns,
        baseline=tuple(map(score_over_seeds, theirs)),
        method=tuple(map(score_over_seeds, ours)),
        differences=differences,
        pairs=len(baseline),
        images=layout.images,
        clips=len(layout.clip_starts),
        effective_clips=effective_clips(layout.clip_images),
        p=p,
        verdict=told,
        detectable=None if comparison is None else detectable_difference(comparison),
    )
