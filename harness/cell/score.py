"""What the phase `score` does: score the predictions of a split, or pack them where its labels are private."""

from __future__ import annotations

import zipfile
from pathlib import Path

from harness.datasets.base import Dataset
from harness.datasets.predictions import PREDICTIONS_FILE, in_official_format
from harness.files.stored import write_json
from harness.processes.progress import Event, Report
from harness.records.counts import COUNTS_FILE, SUBMISSION_FILE, write_counts
from harness.scoring import SCORINGS
from harness.suite import ScoredCell


def score_split(cell: ScoredCell, dataset: Dataset, split: str, predicted: Path, report: Report, folder: Path) -> None:
    """Phase `score`: writes the counts of every image, from the predictions' and the labels' files, and what was odd in the labels."""

    done, total = 0, len(dataset.frames(split))

    def progress(more: int) -> None:
        nonlocal done
        done += more
        report(Event(cell.id, "score", done, total, "images"))

    scorer = SCORINGS[dataset.form].scorer
    with in_official_format(predicted / PREDICTIONS_FILE, dataset, split) as lanes:
        counts, oddities = scorer(dataset, split, lanes, progress=progress, workers=cell.training.threads)
    write_counts(folder / COUNTS_FILE, counts)
    warnings = [str(oddity).replace(f"{dataset.root}/", "") for oddity in oddities]
    write_json(folder / "score.json", {"warnings": warnings})


def pack_submission(
    cell: ScoredCell, dataset: Dataset, split: str, predicted: Path, report: Report, folder: Path
) -> None:
    """Phase `score` of a split whose labels are private: writes submission.zip, the predictions as its server reads them."""
    with (
        in_official_format(predicted / PREDICTIONS_FILE, dataset, split) as lanes,
        zipfile.ZipFile(folder / SUBMISSION_FILE, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        files = sorted(path for path in lanes.rglob("*") if path.is_file())
        for path in files:
            archive.write(path, path.relative_to(lanes).as_posix())
    report(Event(cell.id, "score", len(files), len(files), f"{split} can't be scored here: labels private"))
