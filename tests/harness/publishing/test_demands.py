"""What this repository's suites demand is what its own publications are."""

from __future__ import annotations

import pytest

from harness.publishing.demands import demands_of, expected_evaluation
from harness.publishing.expected import evaluation_faults, record_faults
from harness.publishing.labels import unpack_labels
from harness.records.record import Record, read_records
from harness.suite import cells_of, load_suite
from tests.harness.publishing.forging import ROOT


@pytest.mark.parametrize("name", ["mini", "mini-robustness", "mini-transfer"])
def test_published_rows_and_labels_are_what_their_suite_demands(name: str) -> None:
    suite, folder = demands_of(name), ROOT / "results" / name
    records = read_records(folder / "records")
    assert len(records) == len(suite.cells)
    assert [record_faults(record, suite) for record in records] == [([], [])] * len(records)
    assert {path.name: unpack_labels(path).facts for path in (folder / "labels").iterdir()} == suite.labels


def test_the_content_of_rendered_datasets_alone_is_fixed() -> None:
    (rendered, *_), (licensed, *_) = demands_of("mini-llamas").cells, demands_of("transfer").cells
    (key,) = demands_of("mini-llamas").labels
    assert rendered.evaluations["val"].dataset_sha256 is not None
    assert rendered.evaluations["val"].split == "val"
    assert key == f"highways.val.{rendered.evaluations['val'].dataset_sha256[:12]}.npz"
    assert {one.dataset_sha256 for one in licensed.evaluations.values()} == {None}
    assert demands_of("transfer").labels == {}


@pytest.mark.parametrize(
    ("name", "images"),
    [("mini", {"roads": 360}), ("transfer", {"culane": 88_880, "tusimple": 3_268}), ("llamas", {"llamas": 58_269})],
)
def test_trainings_by_epochs_are_held_to_the_training_images_of_rendered_and_public_datasets(
    name: str, images: dict[str, int]
) -> None:
    """The public ones have as many by their papers; of TuSimple's 3,626 the 358 of 31 May are for validation."""
    assert demands_of(name).training_images == images


def test_a_row_on_some_of_a_public_splits_images_is_no_row_of_its_suite(record: Record) -> None:
    """Nobody scores it again where the labels aren't at hand: one easy image would give an F1 of 100."""
    (expected, *_) = demands_of("culane").cells
    one = record.evaluations[0].model_copy(
        update={"dataset": "culane", "metric": expected.evaluations["test"].metric, "split": "test"}
    )
    (fault,) = evaluation_faults(record.model_copy(update={"evaluations": (one,)}), expected)
    assert fault == "key 'evaluations.test.total.images' is 270, this repository's suite gives 34680"
    whole = one.model_copy(update={"total": one.total.model_copy(update={"images": 34_680})})
    assert [*evaluation_faults(record.model_copy(update={"evaluations": (whole,)}), expected)] == []


@pytest.mark.parametrize(
    ("name", "split", "private"), [("llamas", "test", True), ("llamas", "val", False), ("mini-llamas", "test", False)]
)
def test_labels_are_private_of_the_official_test_split_of_llamas_alone(name: str, split: str, private: bool) -> None:
    cell = cells_of(load_suite(name))[0]
    part = cell.evaluations["val"].model_copy(update={"split": split})
    assert expected_evaluation(cell, part).private is private
