"""How finished detectors do on a labelled folder in CULane's layout, whatever they were trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from detectors.base import Detector
from harness.datasets.culane import FEWEST_POINTS, CULane
from harness.datasets.sizes import check_sizes
from harness.errors import InputError
from harness.files.scratch import scratch_folder
from harness.files.stored import sha256_of_file
from harness.files.whole import whole_folder
from harness.inference.detector import load_detector
from harness.inference.soundness import BrokenDetector
from harness.lanes import Part
from harness.metrics.canvas import LANE_WIDTH
from harness.prediction.outputs import Outputs
from harness.prediction.run import predict_sources
from harness.prediction.sources import IMAGE_SUFFIXES, Source
from harness.prediction.trained import TrainedCell
from harness.processes.limits import available_cores
from harness.records.counts import OverlapScores, scope_scores
from harness.scoring import SCORINGS, scoring_on
from harness.scoring.culane import score


class BrokenCandidate(InputError):
    """A checkpoint that can't be scored for a fault of its own; the message names it."""


@dataclass(frozen=True)
class Candidate:
    """A checkpoint to be scored. name: of its own, also of the folder of its predictions; origin: where its weights are from.

    method and seed are those of a cell, None for a checkpoint from elsewhere. stale: as of a `TrainedCell`.
    """

    name: str
    detector: str
    method: str | None
    origin: str
    seed: int | None
    stale: bool
    sha256: str
    load: Callable[[], Detector]


@dataclass(frozen=True)
class Scored:
    """What a candidate came to."""

    candidate: Candidate
    scores: OverlapScores


@dataclass(frozen=True)
class LabelledFolder:
    """A split of a folder whose images and labels are all there. lanes: those of the labels."""

    dataset: CULane
    split: str
    lanes: int

    @property
    def images(self) -> int:
        """How many there are."""
        return len(self.dataset.frames(self.split))

    @property
    def metric(self) -> str:
        """Its name, which tells the images' size and the lanes' width where these aren't CULane's."""
        return scoring_on(SCORINGS["culane"], self.dataset.image_size, self.dataset.lane_width or LANE_WIDTH).metric


def open_labelled(root: Path, split: str, lane_width: int) -> LabelledFolder:
    """Open a folder, whose lanes are to be painted so many pixels wide, and look at all that scoring will need of it.

    Raises InputError if it isn't in CULane's layout, and for a listed image that isn't there, a label that is missing or damaged,
    images of several sizes, and labels without a single lane.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "no such folder"
        raise InputError(f"{root}: {what}; give a folder that `samiro-bench data masks` or `data convert` wrote")
    dataset = CULane(root, lane_width=lane_width)
    frames = dataset.frames(split)
    for frame in frames:
        listed = dataset.root / dataset.scored_files(split)[0]
        if not frame.image.is_file():
            raise InputError(f"{listed}: {frame.id} is listed, but isn't there; restore the image or delete the line")
        if frame.image.suffix.lower() not in IMAGE_SUFFIXES:
            raise InputError(f"{listed}: {frame.id} is no image by its name; correct the line, or convert the file")
    check_sizes(dataset, frames)
    labels = dataset.labels(split)
    lanes = [lane for row in range(len(frames)) for lane in labels.lanes(row)]
    if not any(len(lane) >= FEWEST_POINTS for lane in lanes):
        raise InputError(
            f"{root}: the labels of split {split} have no lane of two points; there is nothing to be found"
        )
    return LabelledFolder(dataset, split, len(lanes))


def candidate_of_cell(trained: TrainedCell) -> Candidate:
    """A trained cell's detector, as the matrix scores it. BrokenCandidate where its weights are gone, or others than were recorded."""
    identity = trained.cell.identity
    try:
        sha256 = sha256_of_file(trained.checkpoint)
    except OSError as error:
        raise BrokenCandidate(f"{trained.checkpoint}: {error.strerror}") from None
    if trained.recorded_sha256 not in (None, sha256):
        raise BrokenCandidate(
            f"{trained.checkpoint}: not the weights that its record tells of (sha256 {sha256[:10]}...)"
        )
    return Candidate(
        name=trained.cell.id,
        detector=identity.detector,
        method=identity.method,
        origin=identity.dataset,
        seed=identity.seed,
        stale=trained.stale,
        sha256=sha256,
        load=trained.detector,
    )


def candidate_of_file(adapter: str, checkpoint: Path) -> Candidate:
    """The detector of a checkpoint from anywhere, an adapter's name or path/to/file.py:Class; InputError if it doesn't load."""
    detector = load_detector(checkpoint, adapter=adapter)
    sha256 = sha256_of_file(checkpoint)
    return Candidate(
        name=f"{detector.meta.name}-{sha256[:10]}",
        detector=detector.meta.name,
        method=None,
        origin=str(checkpoint),
        seed=None,
        stale=False,
        sha256=sha256,
        load=lambda: detector,
    )


def score_candidate(
    candidate: Candidate, folder: LabelledFolder, out: Path, *, device: torch.device, part: Part | None
) -> Scored:
    """Predict the folder's images into `out`, as `predict` does, and score what was written, strictly, as the matrix does.

    part: what the detector is shown of each image, None for all of it. Raises InputError for an image that can't be read,
    BrokenCandidate where the candidate itself is at fault.
    """
    frames = folder.dataset.frames(folder.split)
    sources = [Source(frame.image, frame.id, frame.id.rpartition(".")[0]) for frame in frames]
    try:
        detector = candidate.load()
    except InputError as error:
        raise BrokenCandidate(f"{candidate.name}: {error}") from None
    try:
        result = predict_sources(detector, sources, Outputs(out, "lines", overlay=False), device=device, part=part)
    except BrokenDetector as error:
        raise BrokenCandidate(f"{candidate.name}: {error}") from None
    if result.faults:
        raise result.faults[0]
    counts, _ = score(folder.dataset, folder.split, out, progress=lambda done: None, workers=available_cores())
    scores = scope_scores(counts)
    assert isinstance(scores, OverlapScores)
    return Scored(candidate, scores)


@contextmanager
def folder_of_predictions(out: Path | None) -> Iterator[Path]:
    """Yield a folder to fill, which becomes `out` as by `whole_folder`; without an `out` it is gone at the end."""
    if out is None:
        with scratch_folder() as nowhere:
            yield nowhere
        return
    with whole_folder(out, called="--out ") as folder:
        yield folder
