"""The examination of a folder: recognise it, check its files, its labels and a sample of its images."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.datasets.base import Frame
from harness.datasets.doctor.contents import Contents, readable_labels
from harness.datasets.doctor.copies import copied_images
from harness.datasets.doctor.findings import Finding, Health
from harness.datasets.doctor.forms import FORMS
from harness.datasets.doctor.labels import (
    crossing_findings,
    double_lanes,
    empty_findings,
    label_findings,
    order_findings,
)
from harness.datasets.doctor.layouts import Place, recognise
from harness.datasets.doctor.pictures import decoded, header_findings, image_findings, sample, write_labelled_sheet
from harness.datasets.doctor.sources import IMAGE_SIZES
from harness.datasets.doctor.splits import clip_findings, count_findings, shared_images
from harness.datasets.index import LabelIndex, index_of, joined
from harness.datasets.rendering import RENDERING_FILE, rendering_spec
from harness.errors import InputError

OPENED_IMAGES = 200


def examine(root: Path, form: str | None = None, *, images: int = OPENED_IMAGES, sheet: Path | None = None) -> Health:
    """Examine a folder. form: what it should be; None finds out. images: how many are opened (0: all). sheet: a JPEG to write.

    Raises InputError if the folder doesn't exist or is a file, or if a sheet is asked for and no image is there.
    """
    if root.is_file():
        raise InputError(f"{root} is a file; name the folder of a dataset")
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder; name the folder of a dataset")
    seconds: dict[str, float] = {}
    with _timed(seconds, "files"):
        place = recognise(root.resolve(), form)
        if place is None:
            return Health(root, None, None)
        found = FORMS[place.form](place)
    spec = rendering_spec(place.root)
    findings = [*place.findings, *found.findings, *count_findings(place, found, spec)]
    findings += [*shared_images(found), *clip_findings(place, found)]
    with _timed(seconds, "images"):
        expected = _size(place, spec)
        chosen = _chosen(found, images)
        opened = decoded(chosen)
        wrong, size = image_findings(opened, expected)
        findings += [*wrong, *header_findings(opened)]
        if place.own:
            findings += copied_images(found)
    with _timed(seconds, "labels"):
        indices = list(_indices(found, place.root, findings))
        whole = joined([part.index for part in indices])
        names = [name for part in indices for name in part.names]
        about_labels = label_findings(whole, names, size)
        findings += about_labels
        for part in indices:
            findings += empty_findings(place, part.split, part.index, part.names, part.frames)
        if place.own:
            findings += double_lanes(whole, names)
            for part in indices:
                findings += crossing_findings(part.index, part.names, part.frames)
        # What is said of the order would mislead where the axes or the size are wrong.
        if place.form == "culane" and not any(finding.severity == "error" for finding in about_labels):
            findings += order_findings(whole, names)
    if sheet is not None:
        if found.dataset is None:
            what = f"{sheet} wasn't written: the folder can't be opened as a dataset"
            findings.append(Finding("note", "no-sheet", ".", what, "first do what the other findings say"))
        else:
            with _timed(seconds, "sheet"):
                labelled = {frame for split in found.labels for frame in found.frames[split]}
                write_labelled_sheet(sheet, found.dataset, [frame for frame in chosen if frame in labelled] or chosen)
    return Health(
        root=place.root,
        form=place.form,
        layout=place.layout,
        rendered=spec is not None,
        image_size=size,
        images={split: len(frames) for split, frames in found.frames.items()},
        scenarios=dict(Counter(frame.scenario for frame in found.frames.get("test", ()) if frame.scenario)),
        labels=len(whole),
        lanes=len(whole.lane_starts) - 1,
        decoded=len(opened),
        findings=tuple(dict.fromkeys(findings)),  # a broken link to a folder is one to the images and the labels in it
        seconds={step: round(value, 2) for step, value in seconds.items()},
    )


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    seconds[step] = time.monotonic() - begun


def _size(place: Place, spec: dict[str, object] | None) -> tuple[int, int] | None:
    """(height, width) that the images must have; None where any size will do."""
    if spec is not None:
        height, width = spec.get("height"), spec.get("width")
        if not (isinstance(height, int) and isinstance(width, int)):
            raise InputError(
                f"{place.root / RENDERING_FILE}: the spec has no height and width; render the dataset again"
            )
        return height, width
    return None if place.own else IMAGE_SIZES.get(place.form)


def _chosen(found: Contents, images: int) -> list[Frame]:
    """The images to open: of every split its share, one a clip as far as they go."""
    there = {split: [frame for frame in frames] for split, frames in found.frames.items()}
    total = sum(map(len, there.values()))
    chosen = []
    for frames in there.values():
        share = max(1, round(images * len(frames) / max(1, total))) if images else 0
        chosen += [frame for frame in sample(frames, share) if frame.image.is_file()]
    return chosen


@dataclass(frozen=True)
class _Indexed:
    """The labels of a split that can be read: their index, and the label file and the frame of each of its rows."""

    split: str
    index: LabelIndex
    names: Sequence[str]
    frames: Sequence[Frame]


def _indices(found: Contents, root: Path, findings: list[Finding]) -> Iterator[_Indexed]:
    """The labels of each split; those that can't be read go to the findings, and hide none of the others."""
    if found.dataset is None:
        return
    for split, names in found.labels.items():
        frames = found.frames[split]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what they say is a finding of its own
                index = found.dataset.labels(split)
        except InputError:
            read, broken = readable_labels(found, split, root)
            findings.extend(broken)
            frames = tuple(frame for frame, name in zip(frames, names, strict=True) if name in read)
            index, names = index_of(read.values()), list(read)
        yield _Indexed(split, index, names, frames)
