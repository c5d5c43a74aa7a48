"""A sound row is accepted; forged scores, counts, predictions and labels are refused, whatever agrees with them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.datasets.predictions import pack_predictions, predictions_sha256, unpack_predictions
from harness.files.stored import sha256_of_file
from harness.lanes import Lane
from harness.publishing import examine as examining
from harness.publishing.checksums import write_sums
from harness.publishing.examine import examine
from harness.publishing.expected import ExpectedSuite
from harness.publishing.labels import unpack_labels
from harness.records.counts import read_counts, scope_scores, write_counts
from harness.records.record import Evaluation, Record, read_records, write_record
from tests.harness.publishing.forging import BOUNDS, LABELS, PREDICTIONS, changed, evaluated, marks, sealed, told

pytestmark = pytest.mark.usefixtures("labelled_once")


def test_one_sound_row_is_accepted_and_said_to_be_part_of_the_suite(alice: Path, suite: ExpectedSuite) -> None:
    found = examine(alice, "alice", suite, BOUNDS)
    assert found.reasons == ()
    assert (found.rows, found.verified, found.who) == (1, 1, "Alice Example")
    assert marks(found) == [
        "part of the suite: 1 of 4 cells",
        "missing: ufldv2_micro: no record of any of its 2 cells",
        "missing: resa_micro, samiro on roads: no record of any seed of 1",
    ]


def test_a_forged_score_is_refused_though_record_tables_and_sums_agree_with_it(
    alice: Path, suite: ExpectedSuite
) -> None:
    def forge(record: Record) -> Record:
        total = record.evaluations[0].total.model_copy(update={"f1_50": 0.99})
        return evaluated(record, total=total)

    (honest,) = read_records(alice / "records")
    forge_in_place(alice, forge)
    found = examine(alice, "alice", suite, BOUNDS)
    # The first three decimals of what it was before.
    before = re.escape(str(honest.evaluations[0].total.f1_50)[:5])
    assert re.search(rf"f1_50: recorded 0\.99, its counts give {before}", told(found))
    assert re.search(rf"re-scored {before}", told(found))


def forge_in_place(folder: Path, edit: Callable[[Record], Record]) -> None:
    """Change a record and the sums alone: tables of rows that contradict their counts can't be made."""
    (record,) = read_records(folder / "records")
    write_record(folder / "records", edit(record))
    write_sums(folder)


def better(folder: Path) -> Callable[[Record], Record]:
    """One lane more found, in counts and every score that rests on them."""

    def edit(record: Record) -> Record:
        evaluation = record.evaluations[0]
        path = folder / "records" / evaluation.counts_file
        counts: Any = read_counts(path)
        found = counts.true_positives.copy()
        found[int(np.flatnonzero(found[:, 0] < np.minimum(counts.labels, counts.predictions))[0]), 0] += 1
        return rescored(record, path, replace(counts, true_positives=found))

    return edit


def rescored(record: Record, path: Path, counts: Any) -> Record:
    write_counts(path, counts)
    evaluation: Evaluation = record.evaluations[0]
    return evaluated(
        record,
        counts_sha256=sha256_of_file(path),
        total=scope_scores(counts),
        scenarios={name: scope_scores(counts, counts.scenario == name) for name in evaluation.scenarios},
    )


def test_forged_counts_are_refused_though_every_score_and_hash_agrees_with_them(
    alice: Path, suite: ExpectedSuite
) -> None:
    changed(alice, better(alice))
    found = examine(alice, "alice", suite, BOUNDS)
    assert "true_positives: recorded" in told(found)
    assert "f1_50: recorded" in told(found)
    assert "counts give" not in told(found)


@pytest.mark.parametrize("hashed_again", [False, True])
def test_forged_predictions_are_refused(alice: Path, suite: ExpectedSuite, hashed_again: bool) -> None:
    ids, lanes = unpack_predictions(alice / PREDICTIONS)
    lanes = [[Lane(lane.points + np.float32(40), lane.score) for lane in found] for found in lanes]
    pack_predictions(alice / PREDICTIONS, ids, lanes)
    digest = predictions_sha256(ids, lanes)
    changed(alice, lambda record: evaluated(record, predictions_sha256=digest) if hashed_again else record)
    said = told(examine(alice, "alice", suite, BOUNDS))
    assert ("true_positives: recorded" in said) == hashed_again
    assert ("key 'predictions_sha256'" in said) != hashed_again


def other_spec(facts: Any) -> Any:
    return facts.model_copy(update={"spec": facts.spec.model_copy(update={"seed": 7})})


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (other_spec, "key 'spec.seed' is 7, this repository's suite gives"),
        (lambda facts: facts.model_copy(update={"lane_width": 300}), "key 'lane_width' is 300"),
        (lambda facts: facts.model_copy(update={"renderer": "1"}), "key 'renderer' is '1'"),
    ],
)
def test_labels_of_another_specification_than_the_suites_are_refused_before_any_is_made(
    alice: Path, suite: ExpectedSuite, monkeypatch: pytest.MonkeyPatch, edit: Callable[[Any], Any], said: str
) -> None:
    facts = edit(unpack_labels(alice / LABELS).facts)
    with np.load(alice / LABELS) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["facts"] = np.frombuffer(facts.model_dump_json().encode(), np.uint8)
    np.savez_compressed(alice / LABELS, **arrays)
    sealed(alice)
    monkeypatch.setattr(examining, "verify", pytest.fail)
    assert said in told(examine(alice, "alice", suite, BOUNDS))
