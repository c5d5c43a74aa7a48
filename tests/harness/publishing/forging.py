"""A submission of published rows of the mini suite, and changes to it after which all agrees again, as a careful forger makes them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from harness.datasets.predictions import pack_predictions, predictions_sha256, unpack_predictions
from harness.publishing.checksums import write_sums
from harness.publishing.code import OTHER
from harness.publishing.demands import demands_of
from harness.publishing.examine import Verdict, statement_of
from harness.publishing.expected import ExpectedSuite
from harness.publishing.incomplete import missing_rows
from harness.publishing.missing import MISSING_FILE, read_missing, write_missing
from harness.publishing.quarantine import Bounds
from harness.publishing.statement import SUITE_FILE, Statement, write_statement
from harness.publishing.tables import write_tables
from harness.records.record import Record, identity_hash, read_records, write_record
from harness.report.leaderboard import leaderboard
from harness.report.published import read_published

ROOT = Path(__file__).resolve().parents[3]
MINI = ROOT / "results" / "mini"
RECORD = next(path.stem for path in sorted((MINI / "records").glob("*resa_micro-baseline*.json")))
PREDICTIONS = f"predictions/{RECORD}.test.npz"
(LABELS,) = (f"labels/{path.name}" for path in (MINI / "labels").iterdir())
BOUNDS = Bounds()


def submission(target: Path, *records: str) -> Path:
    """A submission of some published rows of the mini suite."""
    for kind in ("records", "predictions", "training", "labels"):
        (target / kind).mkdir(parents=True)
        for path in (MINI / kind).glob("*") if (MINI / kind).is_dir() else ():
            if kind == "labels" or path.name.startswith(records):
                shutil.copy(path, target / kind / path.name)
    shutil.copy(ROOT / "suites/mini.yaml", target / SUITE_FILE)
    sealed(target)
    return target


def sealed(folder: Path, whole: ExpectedSuite | None = None, /, **stated: object) -> None:
    """Make tables, what is missing of a suite (mini), statement and hashes agree with the records, as a careful forger would."""
    records = read_records(folder / "records")
    lacking = missing_rows(records, whole or demands_of("mini"))
    (folder / MISSING_FILE).unlink(missing_ok=True)
    write_missing(folder, lacking)
    write_tables(folder, leaderboard(records, folder / "records", read_published(), missing=lacking))
    own = {"suite": "mini", "name": "alice", "who": "Alice Example", "contact": "https://example.org/alice"}
    write_statement(folder, Statement.model_validate({**own, **statement_of(records), **stated}))
    write_sums(folder)


def hashed_again(folder: Path) -> None:
    """Make the tables and the hashes of a publication without a page agree with its records."""
    board = leaderboard(
        read_records(folder / "records"), folder / "records", read_published(), missing=read_missing(folder)
    )
    write_tables(folder, board)
    write_sums(folder)


def changed(folder: Path, edit: Callable[[Record], Record]) -> Record:
    """Change the record of a submission, hashed and sealed again; it and its files are renamed if its identity says so."""
    (record,) = read_records(folder / "records")
    made = edit(record)
    if made.identity != record.identity:
        identity = made.identity
        name = (
            f"{identity.dataset}-{identity.detector}-{identity.method}-s{identity.seed}-{identity_hash(identity)[:10]}"
        )
        evaluations = tuple(
            one.model_copy(update={"counts_file": one.counts_file.replace(record.id, name)}) for one in made.evaluations
        )
        made = made.model_copy(update={"id": name, "evaluations": evaluations})
        for path in sorted(folder.glob(f"*/{record.id}.*")):
            path.rename(path.with_name(path.name.replace(record.id, name)))
    (folder / "records" / f"{record.id}.json").unlink(missing_ok=True)
    (folder / "records" / f"{made.id}.json").unlink(missing_ok=True)
    write_record(folder / "records", made)
    sealed(folder)
    return made


def evaluated(record: Record, **update: object) -> Record:
    return record.model_copy(update={"evaluations": (record.evaluations[0].model_copy(update=update),)})


def trained(record: Record, **update: object) -> Record:
    assert record.training is not None
    return record.model_copy(update={"training": record.training.model_copy(update=update)})


def identified(**update: object) -> Callable[[Record], Record]:
    return lambda record: record.model_copy(update={"identity": record.identity.model_copy(update=update)})


def backwards(archive: Path) -> str:
    """Write archived predictions with the lanes of every image in reverse order; returns their hash."""
    ids, lanes = unpack_predictions(archive)
    turned = [found[::-1] for found in lanes]
    pack_predictions(archive, ids, turned)
    return predictions_sha256(ids, turned)


def told(found: Verdict) -> str:
    return "\n".join(found.reasons)


def marks(found: Verdict) -> list[str]:
    """The marks, but for that of older code: whether the published rows get it depends on when they were made."""
    return [mark for mark in found.marks if not mark.startswith(OTHER)]
