"""What the phase `score` does: score the predictions of a split, or pack them where its labels are private."""

from __future__ import annotations

import zipfile
from pathlib import Path

from harness.datasets.base import Dataset
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
    counts, oddities = scorer(dataset, split, predicted / "lanes", progress=progress, workers=cell.training.threads)
    write_counts(folder / COUNTS_FILE, counts)
    warnings = [str(oddity).replace(f"{dataset.root}/", "") for oddity in oddities]
    write_json(folder / "score.json", {"warnings": warnings})


def pack_submission(
    cell: ScoredCell, dataset: Dataset, split: str, predicted: Path, report: Report, folder: Path
) -> None:
    """Phase `score` of a split whose labels are private: writes submission.zip, the predictions as its server reads them."""
    files = sorted(path for path in (predicted / "lanes").rglob("*") if path.is_file())
    with zipfile.ZipFile(folder / SUBMISSION_FILE, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, path.relative_to(predicted / "lanes").as_posix())
    report(Event(cell.id, "score", len(files), len(files), f"{split} can't be scored here: labels private"))
