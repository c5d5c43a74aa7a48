"""Scores of several lists of images at once: each is a split, their sum is the total."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.metrics.counts import Counts, joined
from harness.metrics.image_lists import ImageList
from harness.metrics.oddities import Oddity, refuse


@dataclass(frozen=True, eq=False)
class SplitCounts:
    """Counts by split, those of all splits together, and what was odd about the files."""

    splits: dict[str, Counts]
    total: Counts
    warnings: tuple[Oddity, ...]


def count_splits(
    lists: Sequence[ImageList],
    score_images: Callable[[Sequence[str]], tuple[Counts, tuple[Oddity, ...]]],
    *,
    strict: bool = False,
) -> SplitCounts:
    """Score the images of each list (of `image_lists.read_lists`). When strict, an odd list is refused as InputError."""
    splits: dict[str, Counts] = {}
    warnings: list[Oddity] = []
    for split in lists:
        if strict:
            refuse(split.oddities)
        splits[split.name], odd = score_images(split.images)
        warnings += [*split.oddities, *odd]
    return SplitCounts(splits, joined(list(splits.values())), tuple(warnings))
