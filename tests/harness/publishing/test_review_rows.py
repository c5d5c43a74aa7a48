"""Rows that the suite doesn't have are refused by key; foreign, copied and unverifiable ones are accepted with that said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.publishing import examine as examining
from harness.publishing.checksums import write_sums
from harness.publishing.copies import PUBLISHED, Known, copies, known_predictions, traces
from harness.publishing.examine import examine, unlike_recipes
from harness.publishing.expected import FOREIGN, ExpectedSuite
from harness.publishing.rescoring import ABSENT
from harness.publishing.review import review
from harness.publishing.statement import SUITE_FILE
from harness.records.record import Record, Submission, identity_hash, read_records, write_record
from tests.harness.publishing.forging import (
    BOUNDS,
    LABELS,
    MINI,
    PREDICTIONS,
    RECORD,
    ROOT,
    backwards,
    changed,
    evaluated,
    identified,
    marks,
    sealed,
    submission,
    told,
    trained,
)

ANOTHER = Known(where="mini, another", came=PUBLISHED)

pytestmark = pytest.mark.usefixtures("labelled_once")


def copied(folder: Path, edit: Callable[[Record], Record]) -> None:
    """A second record beside the first, with files of its own, sealed."""
    (record,) = read_records(folder / "records")
    made = edit(record)
    identity = made.identity
    name = f"{identity.dataset}-{identity.detector}-{identity.method}-s{identity.seed}-{identity_hash(identity)[:10]}"
    for path in [*folder.glob(f"*/{record.id}.*.npz")]:
        shutil.copy(path, path.with_name(path.name.replace(record.id, name)))
    evaluation = record.evaluations[0]
    renamed = evaluated(made, counts_file=evaluation.counts_file.replace(record.id, name))
    write_record(folder / "records", renamed.model_copy(update={"id": name}))
    sealed(folder)


def test_a_seed_that_is_there_twice_is_refused(alice: Path, suite: ExpectedSuite) -> None:
    copied(alice, identified(micro_batch_size=8))
    assert "key 'identity.seed': seed 0 of this row is also" in told(examine(alice, "alice", suite, BOUNDS))


def test_rows_of_detectors_from_elsewhere_do_not_make_a_suite_whole(alice: Path, suite: ExpectedSuite) -> None:
    one = next(
        cell for cell in suite.cells if cell.identity.detector == "resa_micro" and cell.identity.method != "samiro"
    )
    two = one.model_copy(update={"identity": one.identity.model_copy(update={"seed": 1})})
    copied(alice, identified(detector="mine", detector_meta={"name": "mine"}))
    small = suite.model_copy(update={"cells": (one, two)})
    sealed(alice, small)
    found = examine(alice, "alice", small, BOUNDS)
    assert found.reasons == ()
    assert "part of the suite: 1 of 2 cells" in found.marks
    assert f"missing: mine, {one.identity.method} on roads: no record of seed 1 of 2" in found.marks
    assert any(mark.startswith("equal predictions or sums under several names, 1 times") for mark in found.marks)


def test_a_copy_of_published_or_submitted_rows_is_accepted_with_that_said(alice: Path, tmp_path: Path) -> None:
    known = known_predictions(ROOT / "results", "mini", "alice")
    (record,) = read_records(alice / "records")
    assert known[record.evaluations[0].predictions_sha256] == Known(where=f"mini, {RECORD}, test", came=PUBLISHED)
    found = review(alice)
    assert found.accepted
    said = f"predictions copied or repeated, 1 times: {RECORD}, test are mini, {RECORD}, test"
    assert said in found.verdict.marks
    shutil.copytree(alice, tmp_path / "results/submissions/mini/bob")
    assert "submissions/mini/bob" in next(iter(known_predictions(tmp_path / "results", "mini", "alice").values())).where
    assert known_predictions(tmp_path / "results", "mini", "bob") == {}


@pytest.mark.slow
def test_a_copy_whose_lanes_stand_in_another_order_is_accepted_with_that_said(alice: Path) -> None:
    (record,) = read_records(alice / "records")
    changed(alice, lambda record: evaluated(record, predictions_sha256=backwards(alice / PREDICTIONS)))
    assert read_records(alice / "records")[0].evaluations[0].predictions_sha256 != (
        record.evaluations[0].predictions_sha256
    )
    found = review(alice)
    assert found.accepted
    assert (
        f"predictions copied or repeated, 1 times: {RECORD}, test have every sum of mini, {RECORD}, test"
        in found.verdict.marks
    )


def test_rows_that_found_no_lane_are_not_called_copies_of_each_other_by_their_sums(alice: Path) -> None:
    (record,) = read_records(alice / "records")
    evaluation = record.evaluations[0]
    total = evaluation.total.model_copy(update={"true_positives": (0,) * 10})
    rows = [evaluated(record, total=total, predictions_sha256=digit * 64) for digit in "ab"]
    assert copies(rows, {}) == []
    assert len(copies([evaluated(record, predictions_sha256=digit * 64) for digit in "ab"], {})) == 1


def test_predictions_without_a_lane_are_alike_and_nobodys_copies(alice: Path) -> None:
    (record,) = read_records(alice / "records")
    total = record.evaluations[0].total.model_copy(update={"true_positives": (0,) * 10, "predictions": 0})
    rows = [evaluated(record, total=total)] * 2
    assert copies(rows, {record.evaluations[0].predictions_sha256: ANOTHER}) == []
    assert len(copies([record] * 2, {record.evaluations[0].predictions_sha256: ANOTHER})) == 2


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        ({}, True),
        ({"corruption": "fog-3"}, True),
        ({"dataset_sha256": "e" * 64}, False),
        ({"split": "val"}, False),
        ({"metric": "culane/official-2"}, False),
        ({"total": {"predictions": 10_000}}, False),
        ({"scenarios": {}}, False),
    ],
)
def test_sums_are_alike_if_they_are_of_one_split_whatever_befell_its_images(
    alice: Path, change: dict[str, Any], alike: bool
) -> None:
    (record,) = read_records(alice / "records")
    total = record.evaluations[0].total.model_copy(update=change.get("total", {}))
    other = evaluated(record, **{**change, "total": total}, predictions_sha256="b" * 64)
    assert len(copies([record, other], {})) == alike


@pytest.mark.parametrize(("matched", "alike"), [(1, True), (0, False)])
def test_copies_of_rows_in_accuracy_are_told_where_a_lane_was_found(matched: int, alike: bool) -> None:
    record = read_records(ROOT / "results/mini-transfer/records")[0]
    (evaluation,) = (one for one in record.evaluations if one.name == "on_highways")
    total = evaluation.total.model_copy(update={"matched": matched})
    rows = [evaluation.model_copy(update={"total": total, "predictions_sha256": digit * 64}) for digit in "ab"]
    assert len(copies([record.model_copy(update={"evaluations": (row,)}) for row in rows], {})) == alike


def test_rows_that_have_every_sum_of_known_ones_are_told(record: Record) -> None:
    known = {traces(record.evaluations[0])[-1]: ANOTHER}
    (said,) = copies([evaluated(record, predictions_sha256="b" * 64)], known)
    assert said.endswith(f"{RECORD}, test have every sum of mini, another")


def test_copies_of_predictions_for_a_server_are_told(alice: Path) -> None:
    (record,) = read_records(alice / "records")
    kept = record.evaluations[0].model_dump(include=set(Submission.model_fields))
    submission = Submission.model_validate(kept | {"why": "labels private"})
    private = record.model_copy(update={"evaluations": (), "submissions": (submission,)})
    (said,) = copies([private], {submission.predictions_sha256: ANOTHER})
    assert said == f"predictions copied or repeated, 1 times: {RECORD}, test are mini, another"


def test_known_predictions_are_those_of_the_suites_publication_before_others_before_submissions(tmp_path: Path) -> None:
    for place in ("submissions/mini/bob", "transfer", "mini"):
        (tmp_path / place / "records").mkdir(parents=True)
        shutil.copy(ROOT / f"results/mini/records/{RECORD}.json", tmp_path / place / "records")
        known = known_predictions(tmp_path, "mini", "alice").values()
        assert {one.where for one in known} == {f"{place}, {RECORD}, test"}


def test_rows_of_another_suite_are_refused_by_key(tmp_path: Path, suite: ExpectedSuite) -> None:
    """Predictions made from another suite's labels: a whole, sound publication of its own."""
    ablation = ROOT / "results/ablation"
    name = next(path.stem for path in sorted((ablation / "records").glob("roads-*-baseline-s0-*.json")))
    folder = tmp_path / "mini/alice"
    for kind in ("records", "predictions"):
        (folder / kind).mkdir(parents=True)
        for path in (ablation / kind).glob(f"{name}.*"):
            shutil.copy(path, folder / kind)
    shutil.copytree(ablation / "labels", folder / "labels")
    shutil.copy(ROOT / "suites/ablation.yaml", folder / SUITE_FILE)
    sealed(folder)
    said = told(examine(folder, "alice", suite, BOUNDS))
    assert "key 'identity.dataset_key.rendered' is" in said
    assert "key 'evaluations.test.dataset_sha256' is" in said
    assert "key 'suite' is 'ablation', this repository's suite gives 'mini'" in said


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (
            lambda record: evaluated(record, metric="culane/official-2"),
            "key 'evaluations.test.metric' is 'culane/official-2'",
        ),
        (lambda record: record.model_copy(update={"suite": "paper"}), "key 'suite' is 'paper'"),
        (identified(seed=7), "key 'identity.seed' is 7, the suite has 0"),
        (identified(threads=64), "key 'identity.threads' is 64, this repository's suite gives 1"),
        (identified(method="magic"), "key 'identity.method' is 'magic', the suite has baseline, samiro"),
        (
            identified(detector="clrnet_micro"),
            "key 'identity.detector' is 'clrnet_micro', which the suite doesn't have",
        ),
        (identified(recipe={"steps": 10_000}), "key 'identity.recipe.steps' is 10000"),
        (identified(micro_batch_size=10_000), "key 'identity.micro_batch_size' is 10000"),
    ],
)
def test_what_the_suite_does_not_have_is_refused_by_key(
    alice: Path, suite: ExpectedSuite, monkeypatch: pytest.MonkeyPatch, edit: Callable[[Record], Record], said: str
) -> None:
    changed(alice, edit)
    monkeypatch.setattr(examining, "verify", pytest.fail)
    assert said in told(examine(alice, "alice", suite, BOUNDS))


def test_a_smaller_micro_batch_is_the_suites_cell_all_the_same(alice: Path, suite: ExpectedSuite) -> None:
    changed(alice, lambda record: trained(identified(micro_batch_size=8)(record), micro_batch_size=8))
    assert examine(alice, "alice", suite, BOUNDS).reasons == ()


def test_an_evaluation_that_was_left_out_is_refused(alice: Path, suite: ExpectedSuite) -> None:
    cells = tuple(
        cell.model_copy(update={"evaluations": {**cell.evaluations, "fog-5": cell.evaluations["test"]}})
        for cell in suite.cells
    )
    said = told(examine(alice, "alice", suite.model_copy(update={"cells": cells}), BOUNDS))
    assert "key 'evaluations' is ['test'], this repository's suite gives ['fog-5', 'test']" in said


def test_a_detector_from_elsewhere_is_accepted_with_its_mark(alice: Path, suite: ExpectedSuite) -> None:
    recipe = {"steps": 220, "batch_size": 16, "confidence_threshold": 0.5}
    changed(alice, identified(detector="mine", recipe=recipe, detector_meta={"name": "mine"}))
    found = examine(alice, "alice", suite, BOUNDS)
    assert found.reasons == ()
    assert any(mark.startswith(FOREIGN) for mark in found.marks)
    changed(alice, identified(threads=3))
    assert "key 'identity.threads' is 3" in told(examine(alice, "alice", suite, BOUNDS))


def test_rows_of_a_licensed_dataset_are_accepted_as_unverified_where_it_is_absent(
    alice: Path, suite: ExpectedSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMIRO_BENCH_DATA_ROADS", str(alice / "nowhere"))
    key = {"real": "roads", "form": "culane"}
    cells = tuple(
        cell.model_copy(
            update={
                "identity": cell.identity.model_copy(update={"dataset_key": key}),
                "evaluations": {"test": cell.evaluations["test"].model_copy(update={"dataset_sha256": None})},
            }
        )
        for cell in suite.cells
    )
    licensed = suite.model_copy(update={"cells": cells, "labels": {}})
    changed(alice, lambda record: evaluated(identified(dataset_key=key)(record), dataset_sha256="a" * 64))
    assert f"'{LABELS}': no record needs it" in told(examine(alice, "alice", licensed, BOUNDS)), (
        "labels that may not be in it"
    )
    shutil.rmtree(alice / "labels")
    sealed(alice)
    found = examine(alice, "alice", licensed, BOUNDS)
    assert found.reasons == ()
    assert (found.rows, found.verified) == (1, 0)
    assert any(mark.startswith(f"1 unverified here: {ABSENT}") for mark in found.marks)


def test_pairs_that_began_unlike_are_accepted_with_that_said(tmp_path: Path, suite: ExpectedSuite) -> None:
    """A method's seeds named anew, say: `verify` marks it, and so does who accepts the rows."""
    folder = submission(tmp_path / "mini/alice", "roads-resa_micro-")
    (log,) = (folder / "training").glob("*-samiro-*.jsonl")
    first, *rest = log.read_text().splitlines()
    entry = json.loads(first)
    entry["losses"] = {name: value + 1 for name, value in entry["losses"].items()}
    log.write_text("\n".join([json.dumps(entry), *rest]))
    sealed(folder)
    found = examine(folder, "alice", suite, BOUNDS)
    assert found.reasons == ()
    (part, missing, unlike) = marks(found)
    assert "said to be a pair, began with unlike losses" in unlike
    assert part == "part of the suite: 2 of 4 cells"
    assert missing == "missing: ufldv2_micro: no record of any of its 2 cells"


def test_records_of_another_version_are_refused_by_name(alice: Path, suite: ExpectedSuite) -> None:
    path = alice / "records" / f"{RECORD}.json"
    path.write_text(path.read_text().replace('"schema_version": 2', '"schema_version": 3', 1))
    write_sums(alice)
    assert "key 'schema_version' is 3, this program reads 2" in told(examine(alice, "alice", suite, BOUNDS))


def test_a_method_that_was_trained_longer_than_its_baseline_is_accepted_with_the_keys_named(
    record: Record,
) -> None:
    method = next(one for one in read_records(MINI / "records") if one.id.startswith("roads-resa_micro-samiro"))
    assert list(unlike_recipes([record, method])) == []
    longer = identified(recipe=method.identity.recipe | {"steps": 2_200, "batch_size": 8})(method)
    assert list(unlike_recipes([record, longer])) == [
        "resa_micro, samiro: no gain, because its baseline has other keys: recipe.batch_size (8, baseline 16), "
        "recipe.steps (2200, baseline 220)"
    ]
    assert list(unlike_recipes([longer])) == []
