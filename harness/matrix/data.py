"""What a plan reads of datasets, looked at before anything runs: all of it that decides whether scores mean what they seem to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from harness.cell.artefacts import open_part, rendering_phase
from harness.cell.phases import damaged
from harness.datasets.base import Dataset, Frame
from harness.datasets.doctor.sources import IMAGES
from harness.datasets.sizes import ImageFiles, image_files, refuse_odd_sizes
from harness.errors import InputError
from harness.matrix.plan import AnyCell
from harness.matrix.renderings import refuse_edited
from harness.rendered.spec import RenderSpec
from harness.suite import Cell, DatasetPart, Suite

FEWEST_CLIPS = 10
"""Of a test split: below it no table has an interval (`harness.report.statistics`, which takes too long to import for a plan)."""

MOST_LANES = {"culane": 4, "tusimple": 5}
"""Form -> so many lanes an image the public labels have at most, and most detectors find. LLAMAS's metric counts four of any number."""

FEWEST_POINTS = 2
"""Of a lane that can be found."""


@dataclass(frozen=True)
class Need:
    """Something that has to be there. `detail` says what was found or, if it is missing, what to do about it."""

    kind: Literal["data", "weights", "oracle", "checkpoint", "program", "disk", "memory"]
    name: str
    missing: bool
    detail: str


@dataclass(frozen=True)
class DataNeed(Need):
    """A dataset. images: of each split that the suite reads, counted; of a published dataset that isn't there, as published.

    warnings: what is odd about it, though everything runs, a line each.
    """

    images: Mapping[str, int]
    warnings: tuple[str, ...] = ()


@dataclass
class Reads:
    """The splits that some cells read of a dataset, by what for."""

    trained: set[str] = field(default_factory=set)
    chosen: set[str] = field(default_factory=set)
    scored: set[str] = field(default_factory=set)

    @property
    def splits(self) -> set[str]:
        """All of them."""
        return self.trained | self.chosen | self.scored

    @property
    def kept_apart(self) -> list[tuple[str, str]]:
        """Pairs of splits that no image may be in both of: what is learnt or chosen from, and what is chosen on or scored."""
        learnt = [(one, other) for one in sorted(self.trained) for other in sorted(self.chosen | self.scored)]
        chosen = [
            (one, other) for one in sorted(self.chosen - self.trained) for other in sorted(self.scored - self.trained)
        ]
        return [(one, other) for one, other in [*learnt, *chosen] if one != other]


def data_needs(
    suite: Suite,
    cells: Sequence[AnyCell],
    results: Path,
    problems: Mapping[str, str] | None = None,
    trained: Collection[str] = (),
) -> list[DataNeed]:
    """Every dataset that some cells read: a rendered one is made when it is needed, a real one has to be there with those splits.

    problems: what a plan found wrong with some of them, by name, which may lie in a split that no cell reads: labels of all splits are
    what a dataset is known by. trained: as for `reads_of`.
    """
    read = reads_of(cells, trained)
    return [
        data_need(name, part, read[name], results, (problems or {}).get(name))
        for name, part in suite.datasets.items()
        if name in read
    ]


def reads_of(cells: Iterable[AnyCell], trained: Collection[str] = ()) -> dict[str, Reads]:
    """Dataset -> what some cells read of it. trained: the ids of those that need no image to train on any more."""
    found: dict[str, Reads] = defaultdict(Reads)
    for cell in cells:
        if isinstance(cell, Cell):
            if cell.id not in trained:
                found[cell.identity.dataset].trained.add("train")
            if "val-best" in (cell.identity.selection, cell.identity.confidence):
                found[cell.identity.dataset].chosen.add("val")
            if cell.id not in trained and cell.oracle is not None and cell.oracle.dataset is not None:
                found[cell.oracle.dataset].trained.add("train")
        for part in cell.evaluations.values():
            found[part.dataset or cell.identity.dataset].scored.add(part.split)
    return found


def data_need(name: str, part: DatasetPart, reads: Reads, results: Path, problem: str | None = None) -> DataNeed:
    """Look at one dataset: its folder, its lists and labels, and all images that are read, by their headers.

    problem: why nobody can say what it is known by, None where somebody can.
    """
    if part.rendered is not None:
        return rendered_need(name, part, part.rendered, results)
    images = {}
    try:
        dataset = open_part(results, name, part)
        dataset.splits()  # a folder without any says so, not which one is missing
        for split in sorted(reads.splits):
            images[split] = len(dataset.frames(split))
        warnings = examined(dataset, reads)
        if problem is not None:
            raise InputError(problem)
    except InputError as error:
        # What the published dataset holds is enough to say what it will cost.
        published = images or IMAGES.get(part.root or name, {})
        return DataNeed(
            "data", name, True, str(error), {split: published[split] for split in reads.splits if split in published}
        )
    counts = ", ".join(f"{split} {count:,}" for split, count in images.items())
    return DataNeed("data", name, False, f"{dataset.root}: {counts} images", images, tuple(warnings))


def rendered_need(name: str, part: DatasetPart, spec: RenderSpec, results: Path) -> DataNeed:
    """A dataset that is rendered when it is needed; one that is there already has to list what was rendered."""
    images, phase = {split: wanted.frames for split, wanted in spec.splits.items()}, rendering_phase(results, spec)
    if phase.folder.is_dir():
        try:
            refuse_edited(open_part(results, name, part), images)
        except InputError as error:
            told = damaged(phase.folder, str(error).partition("; ")[0], error)
            return DataNeed("data", name, True, str(told), images)
    return DataNeed("data", name, False, "rendered when it is needed", images)


def examined(dataset: Dataset, reads: Reads) -> list[str]:
    """What is odd about what is read of a dataset, a line each.

    Raises InputError for labels and images that are missing or damaged, images of another size than their labels are made for, a split
    without a lane, and images in two splits that have to be kept apart.
    """
    files: dict[str, ImageFiles] = {}
    for split in sorted(reads.splits):
        check_labels(dataset, split)
        files[split] = image_files(dataset, split)
        refuse_odd_sizes(dataset, dataset.frames(split), files[split].sizes)
    for one, other in reads.kept_apart:
        refuse_shared_images(dataset, one, other, files)
    shared = [
        shared_clips(dataset, one, other)
        for one, other in reads.kept_apart
        if one in reads.trained and other in reads.scored
    ]
    few = [few_clips(dataset, split) for split in sorted(reads.scored)]
    many = [many_lanes(dataset, split) for split in sorted(reads.trained | reads.scored)]
    return [line for line in [*shared, *few, *many] if line is not None]


def check_labels(dataset: Dataset, split: str) -> None:
    """InputError where labels of a split are missing or damaged, or hold no lane at all; private ones aren't asked for."""
    if not dataset.has_labels(split):
        return
    if not (np.diff(dataset.labels(split).lane_starts) >= FEWEST_POINTS).any():
        raise InputError(
            f"{dataset.root}: no label of split {split} has a lane of two points: there is nothing to be learnt from it or found in "
            "it; restore the labels, or leave the split out"
        )


def refuse_shared_images(dataset: Dataset, one: str, other: str, files: Mapping[str, ImageFiles]) -> None:
    """InputError where images are in both of two splits, by whatever names and links; copies of images aren't noticed."""
    seen = set(known_by(dataset.frames(one), files[one]))
    frames = dataset.frames(other)
    both = [frame for frame, file in zip(frames, known_by(frames, files[other]), strict=True) if file in seen]
    if both:
        count = (
            f"{len(both):,} of the {len(frames):,} images of split {other} are" if len(both) > 1 else "this image is"
        )
        raise InputError(
            f"{both[0].image}: {count} in split {one} too, so that scores on {other} would be of images that were learnt by heart: "
            "take them off one of the two lists"
        )


def known_by(frames: Sequence[Frame], files: ImageFiles) -> list[tuple[int, ...] | Path]:
    """What tells each image file from others: its place on a disk; its path where the file system has no such thing."""
    rows = zip(frames, files.files.tolist(), strict=True)
    return [tuple(row) if row[1] else frame.image for frame, row in rows]


def shared_clips(dataset: Dataset, one: str, other: str) -> str | None:
    """What to say where recordings are in both of two splits, by their clips; None where none is.

    The published splits of CULane (by driver) and LLAMAS (by drive) share none. Of TuSimple's 2,782 test frames 819 are within 30 s of
    a training frame, but no clip has one name in both, so that nothing is said of what nobody can change.
    """
    before = {frame.clip for frame in dataset.frames(one)}
    frames = [frame for frame in dataset.frames(other) if frame.clip in before]
    if not frames:
        return None
    clips = len({frame.clip for frame in frames})
    recordings = "one recording (clip)" if clips == 1 else f"{clips:,} recordings (clips)"
    return (
        f"{dataset.name}: frames of {recordings} are in both splits {one} and {other}, the first is {frames[0].id}: scores on {other} "
        "are then of roads that were learnt from; put every recording into one split (docs/add-a-dataset.md)"
    )


def few_clips(dataset: Dataset, split: str) -> str | None:
    """What to say of a scored split of too few clips for statistics; None where there are enough, or where labels are private."""
    clips = len({frame.clip for frame in dataset.frames(split)})
    if clips >= FEWEST_CLIPS or not dataset.has_labels(split):
        return None
    number = "one clip" if clips == 1 else f"{clips} clips"
    return (
        f"{dataset.name}: the images of split {split} are of {number}, and below {FEWEST_CLIPS} there is no interval and no verdict; "
        "put every recording into a folder of its own (docs/add-a-dataset.md)"
    )


def many_lanes(dataset: Dataset, split: str) -> str | None:
    """What to say of a split some of whose images have more lanes than most detectors find; None where none has."""
    most = MOST_LANES.get(dataset.form)
    if most is None or not dataset.has_labels(split):
        return None
    index = dataset.labels(split)
    lanes = np.append(0, np.cumsum(np.diff(index.lane_starts) >= FEWEST_POINTS))[index.frame_starts]
    found = np.diff(lanes)
    if (above := int((found > most).sum())) == 0:
        return None
    return (
        f"{dataset.name}: {above:,} of the {len(found):,} images of split {split} have more than {most} lanes, up to {found.max()}: "
        f"most detectors learn and find {most} at most, so that further lanes are missed (docs/add-a-dataset.md#how-many-lanes)"
    )
