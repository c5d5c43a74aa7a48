"""`publish`: a suite's records, counts, predictions and tables into results/<suite>/, its table and badge into the README."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import quote

from harness.artefacts import open_part
from harness.cell import cell_phases, records_folder
from harness.datasets.predictions import predictions_sha256, unpack_predictions
from harness.errors import InputError
from harness.files import write_text
from harness.matrix import Plan, records_of, refuse_unavailable
from harness.publishing.pictures import median_images, overlay_sheet
from harness.records import Evaluation, Record, Submission, read_checked_counts
from harness.report.badge import badge_text, to_badge
from harness.report.leaderboard import leaderboard
from harness.report.published import read_published
from harness.report.tables import to_markdown, write_leaderboard
from harness.report.text import markdown
from harness.suite import Cell

PUBLISHED = frozenset(
    {"leaderboard.md", "leaderboard.csv", "leaderboard.tex", "badge.svg", "records", "predictions", "overlays.jpg"}
)
"""What a publication consists of; a folder that holds more isn't replaced."""


def publish(plan: Plan, target: Path, readme: Path | None) -> list[Path]:
    """Copy the records of a finished suite to `target`, its table and badge between the README's markers; returns what was written.

    The folder `target` is replaced as a whole, by a rename. InputError if a cell has no record, if its archived predictions are not
    the recorded ones, if `target` holds anything that isn't a publication, or if the README has no markers.
    """
    refuse_unavailable(plan)
    records = records_of(plan)
    missing = [state.cell.id for state in plan.cells if not any(record.id == state.cell.id for record in records)]
    if missing:
        raise InputError(f"{missing[0]} has no record ({len(missing)} of {len(plan.cells)} cells); run `bench` first")
    check_target(plan, target)
    page = None if readme is None else with_table(readme, plan, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        made = Path(folder) / target.name
        fill(plan, records, made)
        if target.exists():
            target.rename(Path(folder) / "before")
        made.rename(target)
    if readme is not None and page is not None:
        write_text(readme, page)
    return sorted(path for path in target.rglob("*") if path.is_file()) + ([readme] if readme else [])


def check_target(plan: Plan, target: Path) -> None:
    """InputError unless `target` may be replaced: it isn't where runs live, and holds nothing but an earlier publication."""
    place, runs = target.resolve(), plan.results.resolve()
    if place == runs or place in runs.parents or runs in place.parents:
        raise InputError(f"{target}: runs live there or below ({plan.results}); give --out another folder")
    if target.exists() and not target.is_dir():
        raise InputError(f"{target}: is a file; give --out another folder")
    strange = sorted({path.name for path in target.iterdir()} - PUBLISHED) if target.is_dir() else []
    if strange:
        raise InputError(f"{target / strange[0]}: no part of a publication, and would be lost; move it away")


def fill(plan: Plan, records: list[Record], folder: Path) -> None:
    """Write everything that is published of a suite into a new folder."""
    source = records_folder(plan.results, plan.suite.name)
    (folder / "records").mkdir(parents=True)
    (folder / "predictions").mkdir()
    for state, record in zip(plan.cells, records, strict=True):
        shutil.copyfile(source / f"{record.id}.json", folder / "records" / f"{record.id}.json")
        for evaluation in record.evaluations:
            read_checked_counts(source, record, evaluation)
            shutil.copyfile(source / evaluation.counts_file, folder / "records" / evaluation.counts_file)
        everything: list[Evaluation | Submission] = [*record.evaluations, *record.submissions]
        for predicted in everything:
            archive = cell_phases(plan.results, state.cell).predict[predicted.name].folder / "predictions.npz"
            if predictions_sha256(*unpack_predictions(archive)) != predicted.predictions_sha256:
                raise InputError(
                    f"{archive}: differs from key 'predictions_sha256' of {record.id}.json; move its folder away and "
                    "run `bench` again"
                )
            shutil.copyfile(archive, folder / "predictions" / f"{record.id}.{predicted.name}.npz")
    board = leaderboard(records, folder / "records", read_published())
    write_leaderboard(folder, board)
    write_text(folder / "badge.svg", to_badge(board))
    picture(plan, records, folder)


def picture(plan: Plan, records: list[Record], folder: Path) -> None:
    """The sheet of overlays, of the last cell on rendered images; other images may not be shown."""
    shown: list[tuple[Cell, Record]] = [
        (state.cell, record)
        for state, record in zip(plan.cells, records, strict=True)
        if state.cell.dataset.rendered is not None and record.evaluations
    ]
    if not shown:
        return
    cell, record = shown[-1]
    evaluation = record.evaluations[0]
    dataset = open_part(plan.results, cell.identity.dataset, cell.dataset)
    counts = read_checked_counts(folder / "records", record, evaluation)
    ids, lanes = unpack_predictions(folder / "predictions" / f"{record.id}.{evaluation.name}.npz")
    frames = dataset.frames(evaluation.split)
    overlay_sheet(folder / "overlays.jpg", dataset, frames, median_images(counts), dict(zip(ids, lanes, strict=True)))


def with_table(readme: Path, plan: Plan, target: Path) -> str:
    """The README's text with the suite's leaderboard between its markers, and its badge where it has markers for one."""
    board = leaderboard(records_of(plan), records_folder(plan.results, plan.suite.name), read_published())
    # The page has a title of its own.
    table = to_markdown(board).split("\n", 1)[1].strip()
    text = between(readme, readme.read_text(encoding="utf-8"), f"leaderboard:{plan.suite.name}", table)
    if f"<!-- badge:{plan.suite.name} -->" not in text:
        return text
    folder = quote(Path(os.path.relpath(target, readme.parent)).as_posix())
    badge = f"[![{markdown(badge_text(board))}]({folder}/badge.svg)]({folder}/leaderboard.md)"
    return between(readme, text, f"badge:{plan.suite.name}", badge)


def between(readme: Path, text: str, name: str, content: str) -> str:
    """The README's text with other content between a pair of markers; InputError unless each stands there once, in order."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise InputError(
            f"{readme}: needs the lines {begin} and {end}, once each and in this order; or give --no-readme"
        )
    return f"{text[: text.index(begin)]}{begin}\n{content}\n{text[text.index(end) :]}"
