"""Which frames of a row the page shows, with predicted lanes over them: the best, the median and the worst of every scenario.

Pictures are drawn by the page: a small image of each frame, which all rows share, and lanes as lines. Only rendered frames have images
and labels in a publication; those of licensed datasets are predictions on a blank canvas.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from harness.datasets.base import Dataset
from harness.datasets.images import Image, encoded, read_image
from harness.errors import InputError
from harness.files.stored import sha256_of_text, written_aside
from harness.publishing.labels import labels_name, laid_out, unpack_labels
from harness.publishing.polylines import polylines
from harness.publishing.rescoring import check_predictions, plain, stated_size
from harness.records.counts import THRESHOLDS, UNNAMED, Counts, OverlapCounts
from harness.records.record import Evaluation, Record, read_checked_counts
from harness.report.columns import EMPTY_SCENARIO, SCENARIOS
from harness.report.leaderboard import Leaderboard, Section
from harness.report.rows import Row
from harness.report.site.rows import evaluation_of, row_id
from harness.report.text import counted

PICTURE_WIDTH = 400
PICTURE_QUALITY = 52
"""Of WebP: some 6 kB a frame of CULane's shape."""

PICTURES_LIMIT = 1_500_000
"""Bytes of all pictures of a page; frames beyond have their lanes on a blank canvas."""

ROWS_LIMIT = 120
"""Rows of a page that have frames, the first ones: some 10 kB each."""

RANKS = ("best", "median", "worst")


@dataclass
class Frames:
    """What the page shows of frames. frames: name -> size, labels, picture; overlays: row id -> scenarios with frames and lanes.

    wanted: name -> dataset content and frame id, in the order of rows.
    """

    frames: dict[str, dict[str, Any]] = field(default_factory=dict)
    overlays: dict[str, dict[str, Any]] = field(default_factory=dict)
    wanted: dict[str, tuple[str, str]] = field(default_factory=dict)


class ArchivedLabels:
    """The label archives of a publication, each laid out once in a temporary folder."""

    def __init__(self, folder: Path, place: Path) -> None:
        """folder: the publication's. place: an empty folder."""
        self._folder, self._place = folder / "labels", place
        self._opened: dict[str, Dataset | None] = {}

    def of(self, evaluation: Evaluation) -> Dataset | None:
        """The dataset without images that a row was scored on; None where its labels aren't published."""
        name = labels_name(evaluation.dataset, evaluation.split, evaluation.dataset_sha256)
        if name not in self._opened:
            path, place = plain(self._folder / name), self._place / str(len(self._opened))
            self._opened[name] = laid_out(unpack_labels(path), place) if path.is_file() else None
        return self._opened[name]


def frames_of(folder: Path, board: Leaderboard) -> Frames:
    """The frames of a publication's rows, each of its first seed. InputError if predictions or labels are damaged or missing."""
    found = Frames()
    rows = [(section, row) for section in board.shown for row in section.rows][:ROWS_LIMIT]
    with tempfile.TemporaryDirectory() as place:
        labels = ArchivedLabels(folder, Path(place))
        for section, row in rows:
            add_row(found, folder, section, row, labels)
    return found


def add_row(found: Frames, folder: Path, section: Section, row: Row, labels: ArchivedLabels) -> None:
    """Add the frames of one row."""
    record = row.arm.records[0]
    evaluation = evaluation_of(record, section.key)
    if evaluation is None:
        return
    counts = read_checked_counts(folder / "records", record, evaluation)
    lanes = dict(zip(*check_predictions(folder, record, evaluation), strict=True))
    dataset = labels.of(evaluation)
    by_id = {frame.id: frame for frame in dataset.frames(evaluation.split)} if dataset else {}
    size = frame_size(record, dataset)
    scenarios = []
    for scenario, places in chosen(counts).items():
        shown = []
        for rank, place in places:
            image = str(counts.image[place])
            if image not in lanes:
                raise InputError(f"{record.id}: no archived predictions of {image[:80]!r}, which its counts name")
            name = sha256_of_text(f"{evaluation.dataset_sha256}/{image}")[:12]
            if name not in found.frames:
                labelled = polylines(dataset.lanes(by_id[image]), size) if dataset and image in by_id else None
                found.frames[name] = {"id": image, "size": [size[1], size[0]], "labels": labelled}
                found.wanted[name] = evaluation.dataset_sha256, image
            drawn = polylines(lanes[image], size)
            shown.append({"rank": rank, "frame": name, "score": frame_score(counts, place), "lanes": drawn})
        scenarios.append({"name": scenario_title(scenario), "shown": shown})
    ground = (
        "; white: labels." if dataset else ", on a blank canvas: images and labels of this dataset may not be shown."
    )
    told = f"Seed {record.identity.seed}, ranked by the frame's own score. In colour: predicted lanes{ground}"
    found.overlays[row_id(row.arm, section.key)] = {"scenarios": scenarios, "told": told}


def chosen(counts: Counts) -> dict[str, list[tuple[str, int]]]:
    """Scenario, in the order of the tables, -> its best, median and worst images by their own score, as places in `counts`; none twice.

    Of images with equal scores the one that is better at higher overlaps counts as better, then the earlier one. Images without
    lanes have no score but their false positives: the fewer the better.
    """
    quality, places = counts.quality(), np.arange(len(counts.image))
    finer = counts.true_positives.sum(axis=1) / len(THRESHOLDS) if isinstance(counts, OverlapCounts) else quality
    spared = np.where(counts.labels == 0, -counts.predictions, 0)
    found = {}
    known = {name: place for place, name in enumerate(SCENARIOS)}
    for scenario in sorted(set(counts.scenario.tolist()), key=lambda name: (known.get(name, len(known)), name)):
        rows = places[counts.scenario == scenario]
        order = rows[np.lexsort((-rows, finer[rows], spared[rows], quality[rows]))].tolist()
        ranked = zip(RANKS, (order[-1], order[(len(order) - 1) // 2], order[0]), strict=True)
        seen: dict[int, str] = {}
        for rank, place in ranked:
            seen.setdefault(place, rank)
        found[str(scenario)] = [(rank, place) for place, rank in seen.items()]
    return found


def scenario_title(scenario: str) -> str:
    """A scenario as the tables head it."""
    if scenario == UNNAMED:
        return "all frames"
    return "cross" if scenario == EMPTY_SCENARIO else SCENARIOS.get(scenario, ("", scenario))[1]


def frame_score(counts: Counts, place: int) -> str:
    """A frame's own score in words."""
    labels, predictions = int(counts.labels[place]), int(counts.predictions[place])
    if not isinstance(counts, OverlapCounts):
        return f"accuracy {counts.quality()[place] * 100:.1f}"
    if not labels:
        return f"no lane, {counted(predictions, 'false positive')}"
    return f"F1@50 {counts.quality()[place] * 100:.1f}, {int(counts.true_positives[place, 0])} of {counted(labels, 'lane')} found"


def frame_size(record: Record, dataset: Dataset | None) -> tuple[int, int]:
    """(height, width) of the frames that a record was scored on, as far as it says; CULane's otherwise."""
    if dataset is not None:
        return dataset.image_size
    size = stated_size(record.identity.dataset_key.get("image_size"))
    if size is None:
        stated = record.identity.detector_meta.get("input")
        with suppress(InputError):
            size = stated_size(stated.get("frame")) if isinstance(stated, dict) else None
    return size or (590, 1640)


def write_pictures(folder: Path, found: Frames, images: Mapping[str, Dataset]) -> None:
    """Write the pictures of frames into `folder`, of which `images` has the datasets, by content; those that are there are kept.

    Pictures of other frames are deleted, and so are those beyond the page's limit.
    """
    spent = 0
    frames_by_id = {content: {frame.id: frame for frame in frames_in(dataset)} for content, dataset in images.items()}
    kept = set()
    for name, (content, image) in found.wanted.items():
        path = folder / f"{name}.webp"
        frame = frames_by_id.get(content, {}).get(image)
        if not path.is_file():
            if frame is None or spent >= PICTURES_LIMIT:
                continue
            write_picture(path, read_image(frame.image))
        spent += path.stat().st_size
        if spent <= PICTURES_LIMIT:
            kept.add(path.name)
    for path in folder.glob("*.webp"):
        if path.name not in kept:
            path.unlink()


def frames_in(dataset: Dataset) -> list[Any]:
    """The frames of every split of a dataset."""
    return [frame for split in dataset.splits() for frame in dataset.frames(split)]


def write_picture(path: Path, image: Image) -> None:
    """Write a small WebP of an RGB image."""
    height = round(PICTURE_WIDTH * image.shape[0] / image.shape[1])
    small = cv2.resize(image, (PICTURE_WIDTH, height), interpolation=cv2.INTER_AREA)
    flags = [cv2.IMWRITE_WEBP_QUALITY, PICTURE_QUALITY]
    content = encoded(".webp", np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2BGR), np.uint8), flags)
    with written_aside(path) as aside:
        aside.write_bytes(content)


def with_pictures(found: Frames, site: Path) -> dict[str, dict[str, Any]]:
    """The frames, with the path of each picture that lies in the page's folder `site`, seen from there."""
    pictures = {name: f"frames/{name}.webp" for name in found.frames}
    return {
        name: {**frame, "picture": pictures[name] if plain_file(site / pictures[name]) else None}
        for name, frame in found.frames.items()
    }


def plain_file(path: Path) -> bool:
    """Whether a path is a file and no link."""
    return path.is_file() and not path.is_symlink()
