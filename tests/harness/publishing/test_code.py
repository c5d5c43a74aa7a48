"""What records state of the code that made them is compared: edited checkouts, unlike arms, phases of no code, code of another day."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.files.fingerprint import code_of
from harness.publishing.code import OTHER, code_marks, older_code, uncommitted, unlike_code, unstated
from harness.publishing.demands import demands_of
from harness.publishing.examine import examine
from harness.publishing.expected import ExpectedSuite
from harness.records.record import Record, read_records
from tests.harness.publishing.forging import BOUNDS, MINI, changed, identified

PUBLISHED = sorted(path.parent for path in MINI.parent.glob("*/records"))
LOOP = "harness/training/loop.py"

pytestmark = pytest.mark.usefixtures("labelled_once")


def committed(record: Record, commit: str | None) -> Record:
    return record.model_copy(update={"environment": record.environment.model_copy(update={"commit": commit})})


def stating(record: Record, phase: str, **hashes: str) -> Record:
    """The record with other hashes of files of a phase."""
    files = {name.replace("__", "/"): value for name, value in hashes.items()}
    changed = record.fingerprints | {phase: record.fingerprints[phase] | files}
    return record.model_copy(update={"fingerprints": changed})


def edited_loop(record: Record) -> Record:
    return stating(record, "train", **{LOOP: "0" * 64})


def of_today(record: Record, suite: ExpectedSuite) -> Record:
    """The record as if this repository's code of today had made it."""
    (cell,) = (cell for cell in suite.cells if cell.identity == record.identity)
    made = {phase: suite.code[digest] for phase, digest in cell.code.items()}
    return record.model_copy(update={"fingerprints": made})


@pytest.fixture
def pair() -> tuple[Record, Record]:
    """The baseline's and the method's row of one detector of the mini suite."""
    baseline, method = sorted(
        (record for record in read_records(MINI / "records") if record.identity.detector == "resa_micro"),
        key=lambda record: record.identity.method,
    )
    return baseline, method


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_no_row_published_here_is_of_an_edited_checkout_of_unlike_code_or_of_none(folder: Path) -> None:
    records = read_records(folder / "records")
    assert [*uncommitted(records), *unstated(records)] == []
    assert [line for line in unlike_code(records) if not line.startswith("unlike commits")] == []


def test_edited_checkouts_and_none_are_told_with_how_many_rows(pair: tuple[Record, Record]) -> None:
    baseline, method = pair
    (told,) = uncommitted([baseline, committed(method, "a" * 40 + "+")])
    assert told == f"made in an edited checkout (a commit with a +): 1 row, the first is {method.id}"
    (told,) = uncommitted([committed(baseline, None), committed(method, None)])
    assert told == f"made outside a checkout of git: 2 rows, the first is {baseline.id}"


def test_arms_whose_code_differs_in_a_file_of_both_are_told_with_the_file(pair: tuple[Record, Record]) -> None:
    baseline, method = pair
    assert list(unlike_code(pair)) == []
    (told,) = unlike_code([baseline, edited_loop(method)])
    assert told == f"unlike code made the arms of a pair, 1 time: {method.id} and {baseline.id} in {LOOP} (phase train)"


def test_files_that_one_arm_alone_has_are_its_methods_own(pair: tuple[Record, Record]) -> None:
    baseline, method = pair
    assert list(unlike_code([baseline, stating(method, "train", mine__method="0" * 64)])) == []


def test_arms_of_unlike_commits_are_told(pair: tuple[Record, Record]) -> None:
    baseline, method = pair
    (told,) = unlike_code([committed(baseline, "a" * 40), committed(method, "b" * 40)])
    shown = f"'{'b' * 12}' and '{'a' * 12}'"
    assert told == f"unlike commits made the arms of a pair, 1 time: {method.id} and {baseline.id}, {shown}"


def test_seeds_of_a_row_of_unlike_code_are_told() -> None:
    rows = [
        record
        for record in read_records(MINI.parent / "rendered-reduced/records")
        if (record.identity.detector, record.identity.method) == ("ufldv2_micro", "baseline")
    ]
    assert list(unlike_code(rows)) == []
    first, second, *others = sorted(rows, key=lambda record: record.identity.seed)
    (told,) = unlike_code([first, edited_loop(second), *others])
    assert told == f"unlike code made seeds of a row, 1 time: {second.id} and {first.id} in {LOOP} (phase train)"


@pytest.mark.parametrize("phase", ["train", "predict-test", "score-test", "time"])
def test_a_phase_with_results_and_without_code_is_told(record: Record, phase: str) -> None:
    for without in (
        {key: value for key, value in record.fingerprints.items() if key != phase},
        record.fingerprints | {phase: {}},
    ):
        (told,) = unstated([record.model_copy(update={"fingerprints": without})])
        assert told == f"no fingerprint of the code of 1 row: the first is {record.id}, which lacks that of {phase}"


def test_a_chosen_threshold_was_made_by_code_too(record: Record) -> None:
    (told,) = unstated([identified(confidence="val-best")(record)])
    assert told.endswith("lacks that of threshold")


def test_rows_of_todays_code_are_not_marked(pair: tuple[Record, Record], suite: ExpectedSuite) -> None:
    assert code_marks([of_today(record, suite) for record in pair], suite) == []


def test_files_that_are_other_ones_today_are_counted_the_trainings_first(
    pair: tuple[Record, Record], suite: ExpectedSuite
) -> None:
    baseline, method = (of_today(record, suite) for record in pair)
    (told,) = older_code([baseline, edited_loop(method)], suite)
    assert told == f"{OTHER}: 1 row, 1 file: {LOOP}"
    other = stating(edited_loop(method), "time", **{"detectors/resa.py": "0" * 64, "harness/gone.py": "0" * 64})
    (told,) = older_code([baseline, other], suite)
    assert told == f"{OTHER}: 1 row, 3 files: {LOOP}, detectors/resa.py, harness/gone.py"
    left_out = {name: value for name, value in method.fingerprints["train"].items() if name != LOOP}
    lacking = method.model_copy(update={"fingerprints": method.fingerprints | {"train": left_out}})
    assert list(older_code([lacking], suite)) == [f"{OTHER}: 1 row, 1 file: {LOOP}"]


def test_files_of_detectors_from_elsewhere_are_not_compared(pair: tuple[Record, Record], suite: ExpectedSuite) -> None:
    foreign = identified(detector="mine", detector_meta={"name": "mine"})(of_today(pair[0], suite))
    own = stating(foreign, "train", **{"mine/detector.py": "0" * 64})
    assert list(older_code([own], suite)) == []
    assert list(older_code([edited_loop(own)], suite)) == [f"{OTHER}: 1 row, 1 file: {LOOP}"]


def test_a_suite_demands_the_fingerprints_that_bench_gives(suite: ExpectedSuite) -> None:
    cell = suite.cells[0]
    assert list(cell.code) == ["train", "predict-test", "score-test", "time"]
    assert suite.code[cell.code["score-test"]] == code_of("harness.scoring.culane")
    assert LOOP in suite.code[cell.code["train"]]
    assert demands_of("mini").code == suite.code


def test_an_edited_checkout_is_accepted_with_that_said(alice: Path, suite: ExpectedSuite) -> None:
    def edit(record: Record) -> Any:
        return committed(record.model_copy(update={"fingerprints": {}}), "a" * 40 + "+")

    made = changed(alice, edit)
    found = examine(alice, "alice", suite, BOUNDS)
    assert found.reasons == ()
    assert f"made in an edited checkout (a commit with a +): 1 row, the first is {made.id}" in found.marks
    assert any(mark.startswith("no fingerprint of the code of 1 row") for mark in found.marks)
