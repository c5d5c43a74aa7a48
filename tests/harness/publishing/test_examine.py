"""What a verdict says of a submission: what of its suite isn't in it, and strangers' lines in bounds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.publishing import examine as examining
from harness.publishing.checksums import write_sums
from harness.publishing.examine import LONGEST, REASONS, examine, stray_files, told_of
from harness.publishing.expected import FOREIGN, ExpectedSuite
from harness.publishing.incomplete import NAMED, missing_faults, missing_marks, missing_rows, what_is_left_out
from harness.publishing.missing import MISSING_FILE
from harness.publishing.statement import SUITE_FILE
from harness.records.record import Record, Submission, read_record, read_records
from tests.harness.publishing.forging import BOUNDS, LABELS, MINI, PREDICTIONS, RECORD, told


def with_seeds(suite: ExpectedSuite, seeds: Sequence[int]) -> ExpectedSuite:
    """The cells of one row of the mini suite, over these seeds."""
    cell = next(one for one in suite.cells if RECORD.startswith(f"roads-{one.identity.detector}-{one.identity.method}"))
    identities = [cell.identity.model_copy(update={"seed": seed}) for seed in seeds]
    return suite.model_copy(update={"cells": tuple(cell.model_copy(update={"identity": one}) for one in identities)})


def of_seeds(detector: str, seeds: Sequence[int]) -> list[Record]:
    record = read_record(MINI / "records" / f"{RECORD}.json")
    identities = [record.identity.model_copy(update={"detector": detector, "seed": seed}) for seed in seeds]
    return [record.model_copy(update={"identity": identity}) for identity in identities]


def test_seeds_that_a_row_lacks_are_told_whosever_detector_it_is(suite: ExpectedSuite) -> None:
    whole = with_seeds(suite, range(3))
    own, foreign = of_seeds("resa_micro", (0, 2)), of_seeds("mine", (0,))
    assert what_is_left_out(of_seeds("resa_micro", range(3)), whole) == []
    assert what_is_left_out([*own, *foreign], whole) == [
        "part of the suite: 2 of 3 cells",
        "missing: resa_micro, baseline on roads: no record of seed 1 of 3",
        "missing: mine, baseline on roads: no record of seeds 1, 2 of 3",
    ]


def test_rows_that_a_submission_lacks_are_named_and_so_is_a_detector_that_isnt_there(suite: ExpectedSuite) -> None:
    """Cherries: without the detector that a method makes worse, and without the baseline."""
    record = of_seeds("resa_micro", (0,))
    assert missing_rows(record, suite) == (
        "ufldv2_micro: no record of any of its 2 cells",
        "resa_micro, samiro on roads: no record of any seed of 1",
    )
    assert missing_rows(of_seeds("mine", (0,)), suite)[-1] == "mine, samiro on roads: no record of any seed of 1"


def test_a_review_names_some_missing_rows_and_says_how_many_more_there_are(suite: ExpectedSuite) -> None:
    (cell, *_) = suite.cells
    named = [cell.identity.model_copy(update={"detector": f"d{number}"}) for number in range(NAMED + 3)]
    large = suite.model_copy(update={"cells": tuple(cell.model_copy(update={"identity": one}) for one in named)})
    told = what_is_left_out(of_seeds("d0", (0,)), large)
    assert told[0] == f"part of the suite: 1 of {NAMED + 3} cells"
    assert told[1:] == [
        *(f"missing: d{number}: no record of any of its 1 cells" for number in range(1, NAMED + 1)),
        "missing: 2 more rows, which its tables name",
    ]


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (["nothing"], "missing.json: says 'nothing', which isn't so"),
        ({}, "missing.json: not a readable list of missing rows"),
    ],
)
def test_a_submission_that_says_it_lacks_what_it_doesnt_is_refused(
    alice: Path, suite: ExpectedSuite, monkeypatch: pytest.MonkeyPatch, stated: object, said: str
) -> None:
    assert "- ufldv2_micro: no record of any of its 2 cells\n" in (alice / "leaderboard.md").read_text()
    (alice / MISSING_FILE).write_text(json.dumps(stated))
    write_sums(alice)
    monkeypatch.setattr(examining, "verify", pytest.fail)
    assert said in told(examine(alice, "alice", suite, BOUNDS))


@pytest.mark.parametrize("stated", [None, [], ["ufldv2_micro: no record of any of its 1 cells"]])
def test_a_suite_that_has_grown_since_takes_nothing_back_and_what_the_tables_are_silent_on_is_marked(
    alice: Path, suite: ExpectedSuite, stated: list[str] | None
) -> None:
    (alice / MISSING_FILE).unlink() if stated is None else (alice / MISSING_FILE).write_text(json.dumps(stated))
    records = read_records(alice / "records")
    assert missing_faults(alice, records, suite) == []
    silent = "rows" if stated is None or not stated else "row"
    amount = 1 if stated else 2
    assert missing_marks(alice, records, suite) == [
        f"its tables don't say of {amount} {silent} that records are missing"
    ]


def test_a_flood_of_names_hides_no_copy(alice: Path, suite: ExpectedSuite, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many marks are told: what each row may bring along comes after what is said once."""
    flood = [f"{FOREIGN}: d{number}" for number in range(99)]
    monkeypatch.setattr(examining, "record_faults", lambda record, suite: ([], flood))
    monkeypatch.setattr(examining, "copies", lambda *given: ["predictions copied or repeated, 1 times"])
    found = examine(alice, "alice", suite, BOUNDS)
    assert found.marks[0] == "predictions copied or repeated, 1 times"
    assert found.marks[-1].endswith("more")


def test_rows_without_a_gain_hide_no_mark_of_whose_detector_it_is(
    alice: Path, suite: ExpectedSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = f"{FOREIGN}: 'mine'"
    monkeypatch.setattr(examining, "record_faults", lambda record, suite: ([], [mark]))
    monkeypatch.setattr(examining, "unlike_recipes", lambda records: (f"mine{number}: no gain" for number in range(99)))
    assert mark in examine(alice, "alice", suite, BOUNDS).marks


def test_a_row_comes_with_what_it_is_scored_from_and_predictions_for_a_server_and_with_nothing_else(
    tmp_path: Path, record: Record, suite: ExpectedSuite
) -> None:
    own = record.evaluations[0].model_dump(include=set(Submission.model_fields))
    server = Submission.model_validate(own | {"name": "server", "why": "labels private"})
    records = [record.model_copy(update={"submissions": (server,)})]
    predicted = f"predictions/{RECORD}.server.npz"
    needed = [f"records/{RECORD}.json", f"records/{RECORD}.test.counts.npz", PREDICTIONS, predicted, LABELS]
    for name in [*needed, f"training/{RECORD}.jsonl"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert stray_files(tmp_path, records, suite) == []
    (said,) = stray_files(tmp_path, records, suite.model_copy(update={"labels": {}}))
    assert said == f"'{LABELS}': no record needs it; take it away"
    (tmp_path / predicted).unlink()
    (said,) = stray_files(tmp_path, records, suite)
    assert said == f"'{predicted}': missing, though a record needs it"


def test_strangers_lines_are_told_in_bounds() -> None:
    assert told_of(["a\nb", "x" * LONGEST]) == ["a b", "x" * LONGEST]
    (long,) = told_of(["x" * (LONGEST + 1)])
    assert (len(long), long[-3:]) == (LONGEST, "...")
    assert told_of(["x"] * REASONS) == ["x"] * REASONS
    assert told_of(["x"] * (REASONS + 2)) == [*["x"] * REASONS, "and 2 more"]


def test_a_submission_without_a_record_and_a_suite_that_is_none_are_refused(alice: Path, suite: ExpectedSuite) -> None:
    (alice / SUITE_FILE).write_text("- mini\n")
    assert told(examine(alice, "alice", suite, BOUNDS)) == f"{SUITE_FILE}: a suite is a mapping"
    (alice / SUITE_FILE).write_text("title: mini\n")
    for path in (alice / "records").iterdir():
        path.unlink()
    assert told(examine(alice, "alice", suite, BOUNDS)) == "there is no record in records/"
