"""`publish`: a suite's records, counts, predictions and tables into results/<suite>/, its table and badge into the README."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from harness.cell.artefacts import open_part, rendering_phase
from harness.cell.keys import CellPhases, records_folder
from harness.datasets.base import Dataset, open_dataset
from harness.datasets.predictions import PREDICTIONS_FILE, predictions_sha256, unpack_predictions
from harness.errors import InputError
from harness.files.scratch import scratch_folder
from harness.files.stored import write_text
from harness.matrix.plan import Plan, refuse_unavailable
from harness.matrix.recorded import SuiteCells, lacking_rows
from harness.matrix.run import records_of
from harness.publishing.checksums import SUMS_FILE, write_sums
from harness.publishing.kept import check_kept
from harness.publishing.labels import labels_name, opened, pack_labels, unpack_labels
from harness.publishing.logs import TRAINING, copy_log, log_path
from harness.publishing.missing import MISSING_FILE, read_missing, write_missing
from harness.publishing.pictures import median_images, overlay_sheet
from harness.publishing.site import SITE, write_site
from harness.publishing.statement import is_submission
from harness.publishing.tables import TABLES, write_tables
from harness.publishing.verify import links, verify
from harness.records.record import Evaluation, Record, Submission, read_checked_counts, read_records, write_record
from harness.rendered.dataset import label_dataset
from harness.rendered.spec import RenderSpec
from harness.report.badge import badge_text
from harness.report.leaderboard import Leaderboard, leaderboard
from harness.report.published import read_published
from harness.report.tables import scores_to_markdown
from harness.report.text import counted, markdown
from harness.suite import ScoredCell
from harness.training.log import LOG_FILE

PUBLISHED = frozenset(
    {
        *TABLES,
        "overlays.jpg",
        "records",
        "predictions",
        "labels",
        TRAINING,
        SITE,
        MISSING_FILE,
        SUMS_FILE,
    }
)
"""What a publication consists of; a folder that holds more isn't replaced."""


def publish(plan: Plan, target: Path, readme: Path | None, whole: SuiteCells | None = None) -> list[Path]:
    """Copy the records of a finished suite to `target`, its table and badge between the README's markers; returns what was written.

    whole: all cells of the suite, where the plan has chosen ones: tables and page tell which of them are missing.

    The folder `target` is replaced as a whole, by a rename. InputError if a cell has no record, if its archived predictions are not
    the recorded ones, if cells were made by other code than there is now and nobody accepted that, if `target` holds anything that
    isn't a publication, or cells of the suite that aren't chosen, or if the README has no markers.
    """
    whole = whole or plan.expected
    refuse_unavailable(plan)
    records = records_of(plan)
    refuse_unaccepted(plan, records)
    missing = [state.cell.id for state in plan.cells if not any(record.id == state.cell.id for record in records)]
    if missing:
        raise InputError(
            f"{missing[0]} has no record ({len(missing)} of {len(plan.cells)} cells); run `bench` first, or choose "
            "what is finished with --tier, --only or --skip"
        )
    check_target(plan, target)
    chosen = {record.id for record in records}
    check_kept(whole, records, target)
    lacking = lacking_rows(whole, chosen)
    board = board_of(plan, records, lacking)
    page = None if readme is None else with_table(readme, plan.suite.name, board, target)
    with replaced(target) as made:
        fill(plan, records, board, made)
    if readme is not None and page is not None:
        write_text(readme, page)
    return sorted(path for path in target.rglob("*") if path.is_file()) + ([readme] if readme else [])


def refuse_unaccepted(plan: Plan, records: Sequence[Record]) -> None:
    """InputError if other code, or other options, made some of what would be published: nobody can make it again from this code, and
    tables don't tell it. Accepted rows have a flag in their records and count as made.
    """
    stale = [(state.cell.id, state.why) for state in plan.cells if state.state == "stale"]
    shared = [(phase.folder.as_posix(), state.reason) for phase, state in plan.artefacts if state.state == "stale"]
    if not stale and not shared:
        return
    name, why = (stale or shared)[0]
    commit = next((record.environment.commit for record in records if record.id == name), None)
    what = f"{len(stale)} of {counted(len(plan.cells), 'cell')}" if stale else counted(len(shared), "shared artefact")
    keep = "`bench --accept-stale` keeps them and flags their rows" if plan.stale else ""
    ways = [
        "`bench --redo-stale` makes them again",
        *([keep] if keep else []),
        f"or publish at the commit that they were made at{f', {commit}' if commit else ''}",
    ]
    raise InputError(f"{name}: {why} ({what} made by other code or options than there are now); {', '.join(ways)}")


def board_of(plan: Plan, records: Sequence[Record], missing: Sequence[str] = ()) -> Leaderboard:
    """The leaderboard of records of a plan, all of which it rests on. InputError if one of them can't be used."""
    folder = records_folder(plan.results, plan.suite.name)
    board = leaderboard(records, folder, read_published(), missing=missing)
    if board.left_out:
        raise InputError(f"{folder}/{board.left_out[0]}")
    return board


@contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` for a new folder, which on success takes its place by a rename.

    A symbolic link is followed, and what it points to is replaced.
    """
    target, name = Path(os.path.realpath(target)), target.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        made = Path(folder) / name
        yield made
        before = Path(folder) / "before"
        # Ctrl-C may come between any two of these lines, and what lies in `before` by then goes with the folder.
        try:
            if target.exists():
                target.rename(before)
            made.rename(target)
        except BaseException:
            if before.exists() and not target.exists():
                before.rename(target)
            raise


def check_target(plan: Plan, target: Path, parts: frozenset[str] = PUBLISHED) -> None:
    """InputError unless `target` may be replaced: it isn't where runs live, and holds nothing but what it is made of, `parts`."""
    place, runs = target.resolve(), plan.results.resolve()
    if place == runs or place in runs.parents or runs in place.parents:
        raise InputError(f"{target}: runs live there or below ({plan.results}); give --out another folder")
    if target.exists() and not target.is_dir():
        raise InputError(f"{target}: is a file; give --out another folder")
    strange = sorted({path.name for path in target.iterdir()} - parts) if target.is_dir() else []
    if strange:
        raise InputError(f"{target / strange[0]}: no part of a publication, and would be lost; move it away")


def fill(plan: Plan, records: list[Record], board: Leaderboard, folder: Path) -> None:
    """Write everything that is published of a suite into a new folder."""
    fill_rows(plan, records, board, folder)
    picture(plan, records, folder)
    write_missing(folder, board.missing)
    write_site(folder, board, rendered_here(folder, plan.results))
    write_sums(folder)


def fill_rows(plan: Plan, records: Sequence[Record], board: Leaderboard, folder: Path) -> None:
    """Write records, counts, predictions, training logs, rendered labels and tables into a new folder: all that rows rest on.

    records: one for each of the plan's cells, in their order. InputError if archived predictions aren't the recorded ones.
    """
    source = records_folder(plan.results, plan.suite.name)
    (folder / "records").mkdir(parents=True)
    (folder / "predictions").mkdir()
    for state, record in zip(plan.cells, records, strict=True):
        write_record(folder / "records", record)
        for evaluation in record.evaluations:
            read_checked_counts(source, record, evaluation)
            shutil.copyfile(source / evaluation.counts_file, folder / "records" / evaluation.counts_file)
        everything: list[Evaluation | Submission] = [*record.evaluations, *record.submissions]
        for predicted in everything:
            archive = state.phases.predict[predicted.name].folder / PREDICTIONS_FILE
            if predictions_sha256(*unpack_predictions(archive)) != predicted.predictions_sha256:
                raise InputError(
                    f"{archive}: differs from key 'predictions_sha256' of {record.id}.json; move its folder away and "
                    "run `bench` again"
                )
            shutil.copyfile(archive, folder / "predictions" / f"{record.id}.{predicted.name}.npz")
        log = state.phases.train.folder / LOG_FILE if isinstance(state.phases, CellPhases) else None
        if log is not None and log.is_file():
            (folder / TRAINING).mkdir(exist_ok=True)
            copy_log(log, log_path(folder, record))
    archive_labels(plan, records, folder)
    write_tables(folder, board)


def archive_labels(plan: Plan, records: Sequence[Record], folder: Path) -> None:
    """The labels of every rendered split that a record was scored on; those of licensed datasets are never published."""
    for state, record in zip(plan.cells, records, strict=True):
        for evaluation in record.evaluations:
            part = state.cell.datasets[evaluation.dataset]
            target = folder / "labels" / labels_name(evaluation.dataset, evaluation.split, evaluation.dataset_sha256)
            if part.rendered is not None and not target.exists():
                with labels_of(plan.results, evaluation.dataset, part.rendered, evaluation.split) as dataset:
                    pack_labels(target, dataset, evaluation.split, part.rendered)


@contextmanager
def labels_of(results: Path, name: str, spec: RenderSpec, split: str) -> Iterator[Dataset]:
    """A rendered dataset whose labels of a split can be read. Where runs came from another machine without its images, these labels are
    made again, without drawing any."""
    root, size = rendering_phase(results, spec).folder / "dataset", (spec.height, spec.width)
    if root.is_dir():
        yield open_dataset(spec.form, root, name=name, image_size=size)
        return
    with scratch_folder() as place:
        label_dataset(spec, place, split)
        yield open_dataset(spec.form, place, name=name, image_size=size)


def rendered_here(folder: Path, results: Path) -> dict[str, Dataset]:
    """The rendered datasets that a publication was scored on, by content, whose images the folder of runs has."""
    found = {}
    for path in sorted((folder / "labels").glob("*.npz")):
        facts = unpack_labels(path).facts
        phase = rendering_phase(results, facts.spec)
        root = phase.folder / "dataset"
        if root.is_dir():
            found[phase.key] = opened(facts, root)
    return found


def picture(plan: Plan, records: list[Record], folder: Path) -> None:
    """The sheet of overlays, of the last cell on clean rendered images of its own dataset; other images may not be shown. None is made
    where runs came from another machine without the images."""
    shown: list[tuple[ScoredCell, Record, Evaluation]] = [
        (state.cell, record, evaluation)
        for state, record in zip(plan.cells, records, strict=True)
        if state.cell.dataset.rendered is not None
        and (rendering_phase(plan.results, state.cell.dataset.rendered).folder / "dataset").is_dir()
        for evaluation in record.evaluations[::-1]
        if evaluation.corruption is None and evaluation.dataset == record.identity.dataset
    ]
    if not shown:
        return
    cell, record, evaluation = shown[-1]
    dataset = open_part(plan.results, cell.identity.dataset, cell.dataset)
    counts = read_checked_counts(folder / "records", record, evaluation)
    ids, lanes = unpack_predictions(folder / "predictions" / f"{record.id}.{evaluation.name}.npz")
    frames = dataset.frames(evaluation.split)
    overlay_sheet(folder / "overlays.jpg", dataset, frames, median_images(counts), dict(zip(ids, lanes, strict=True)))


def with_table(readme: Path, suite: str, board: Leaderboard, target: Path) -> str:
    """The README's text with the suite's scores between its markers, and its badge where it has markers for one."""
    folder = quote(Path(os.path.relpath(target, readme.parent)).as_posix())
    rest = f"[The whole leaderboard]({folder}/leaderboard.md): intervals, latency, and what methods cost in training and at inference."
    table = f"{scores_to_markdown(board)}\n\n{rest}"
    text = between(readme, readme.read_text(encoding="utf-8"), f"leaderboard:{suite}", table)
    if f"<!-- badge:{suite} -->" not in text:
        return text
    badge = f"[![{markdown(badge_text(board))}]({folder}/badge.svg)]({folder}/leaderboard.md)"
    return between(readme, text, f"badge:{suite}", badge)


def between(readme: Path, text: str, name: str, content: str) -> str:
    """The README's text with other content between a pair of markers; InputError unless each stands there once, in order."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise InputError(
            f"{readme}: needs the lines {begin} and {end}, once each and in this order; or give --no-readme"
        )
    return f"{text[: text.index(begin)]}{begin}\n{content}\n{text[text.index(end) :]}"


def publish_tables(target: Path, readme: Path | None, results: Path) -> list[Path]:
    """Make the tables and the page of a publication again from what is in it, after their code changed; returns what was written.

    No run is needed. The page keeps its pictures of frames, and gets those it lacks of datasets whose images lie in the folder of runs
    `results`; a submission has none. InputError unless every row is what its predictions and labels give, and every file but tables and
    page is as it was published.
    """
    # Also of a table, which is made again: what it leads to, be it a disk or a device without end, would be copied.
    linked = sorted(links(target))
    if linked:
        raise InputError(f"{target / linked[0]}: a link, and a publication has none; take it away")
    found = verify(target)
    tables = {table.name for table in found.tables}
    fault = next(
        (item for item in (*found.rows, *found.files) if item.outcome == "differs" and item.name not in tables), None
    )
    if fault is not None:
        raise InputError(f"{target}: {fault.name}: {fault.told[0]}; `verify` tells all; publish again from the run")
    records, lacking = read_records(target / "records"), read_missing(target)
    board = leaderboard(records, target / "records", read_published(), missing=lacking)
    page = None if readme is None else with_table(readme, target.name, board, target)
    with replaced(target) as made:
        shutil.copytree(target, made)
        written = list(write_tables(made, board))
        if not is_submission(target):
            written.append(write_site(made, board, rendered_here(made, results)))
        write_sums(made)
    if readme is not None and page is not None:
        write_text(readme, page)
    return [*(target / path.relative_to(made) for path in (*written, made / SUMS_FILE)), *([readme] if readme else [])]
