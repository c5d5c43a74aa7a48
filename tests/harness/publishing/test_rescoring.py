"""Scoring again: which counts and scores differ, and what of labels, predictions and records can't be scored."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.datasets.base import Dataset, open_dataset
from harness.datasets.culane import CULane
from harness.datasets.predictions import unpack_predictions
from harness.errors import InputError
from harness.publishing.labels import laid_out, unpack_labels
from harness.publishing.rescoring import (
    LabelSource,
    check_counts,
    different_counts,
    different_scores,
    metric_of,
    scored_again,
    stated_size,
    stated_width,
)
from harness.records.counts import OverlapScores, read_counts
from harness.records.record import Evaluation, Record, read_records
from tests.harness.publishing.forging import LABELS, MINI, PREDICTIONS, ROOT


@pytest.fixture(scope="module")
def evaluation(record: Record) -> Evaluation:
    return record.evaluations[0]


@pytest.fixture(scope="module")
def counts(evaluation: Evaluation) -> Any:
    return read_counts(MINI / "records" / evaluation.counts_file)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return laid_out(unpack_labels(MINI / LABELS), tmp_path_factory.mktemp("labels"))


def test_a_score_of_a_scenario_is_checked_like_the_total_to_its_last_digit(evaluation: Evaluation, counts: Any) -> None:
    assert different_scores(evaluation, counts, "its counts give") == []
    night = evaluation.scenarios["night"]
    assert isinstance(night, OverlapScores)
    other = night.model_copy(update={"mf1": math.nextafter(night.mf1, 1)})
    scenarios = {**evaluation.scenarios, "night": other}
    assert different_scores(evaluation.model_copy(update={"scenarios": scenarios}), counts, "its counts give") == [
        f"evaluations.test.scenarios.night.mf1: recorded {other.mf1}, its counts give {night.mf1}"
    ]


def test_a_scenario_that_was_left_out_is_told(evaluation: Evaluation, counts: Any) -> None:
    kept = {name: scores for name, scores in evaluation.scenarios.items() if name != "night"}
    assert different_scores(evaluation.model_copy(update={"scenarios": kept}), counts, "its counts give") == [
        "evaluations.test.scenarios.night: not recorded"
    ]
    unnamed = replace(counts, scenario=np.full(len(counts.image), "unnamed"))
    lacking = different_scores(evaluation.model_copy(update={"scenarios": {}}), unnamed, "its counts give")
    assert lacking == [], "images of no scenario aren't one"


@pytest.mark.parametrize("name", ["image", "clip", "scenario", "labels", "predictions", "true_positives"])
def test_one_value_of_one_image_that_differs_is_named(counts: Any, name: str) -> None:
    other = getattr(counts, name).copy()
    other[3:4].flat[-1] = "x" if other.dtype.kind == "U" else other[3].flat[-1] + 1
    (said,) = different_counts(replace(counts, **{name: other}), counts)
    assert said.startswith(f"counts of {counts.image[3]}: {name}: recorded ")
    assert said.endswith("(1 images differ)")


def test_counts_of_other_images_or_of_another_metric_differ_as_a_whole(counts: Any) -> None:
    fewer = replace(counts, **{name: getattr(counts, name)[:-1] for name in vars(counts)})
    assert different_counts(counts, counts) == []
    assert different_counts(fewer, counts) == [
        f"counts: recorded of {len(fewer.image)} images, re-scored of {len(counts.image)}"
    ]
    tusimple = next((ROOT / "results/mini-transfer/records").glob("*.on_highways.counts.npz"))
    assert different_counts(read_counts(tusimple), counts) == ["counts: of another metric than scoring gives"]
    (_, other) = read_records(ROOT / "results/mini-transfer/records")[0].evaluations
    assert different_scores(other, counts, "re-scored") == [
        "evaluations.on_highways.total: scores of another metric than re-scored gives"
    ]


def test_predictions_in_another_order_or_of_another_metric_are_not_scored(
    dataset: Dataset, evaluation: Evaluation, tmp_path: Path
) -> None:
    ids, lanes = unpack_predictions(MINI / PREDICTIONS)
    with pytest.raises(InputError, match="of other images than the labels, or in another order"):
        scored_again(dataset, evaluation, ids[::-1], lanes[::-1], tmp_path)
    other = evaluation.model_copy(update={"metric": "culane/clrnet"})
    with pytest.raises(InputError, match="key 'metric' is 'culane/clrnet', but these labels are scored by"):
        scored_again(dataset, other, ids, lanes, tmp_path)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (OSError(36, "Name too long"), "Name too long"),
        (ValueError("a\nlabel"), "a label"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_what_strangers_files_make_scoring_raise_is_told_in_a_line(
    dataset: Dataset,
    evaluation: Evaluation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    said: str,
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(CULane, "write_predictions", fail)
    with pytest.raises(InputError, match=rf"can't be scored on these labels \([^\n]*{said}\)"):
        scored_again(dataset, evaluation, *unpack_predictions(MINI / PREDICTIONS), tmp_path)


@pytest.mark.parametrize("fact", ["dataset", "split"])
def test_archived_labels_of_another_dataset_or_split_are_refused_by_key(
    record: Record, evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fact: str
) -> None:
    monkeypatch.setattr("harness.publishing.rescoring.doubt_of", lambda *_: None)
    with np.load(MINI / LABELS) as archive:
        arrays = {name: archive[name] for name in archive.files}
    facts = json.loads(arrays["facts"].tobytes()) | {fact: "other"}
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    (tmp_path / "labels").mkdir()
    np.savez_compressed(tmp_path / LABELS, **arrays)
    with LabelSource(tmp_path) as labels, pytest.raises(InputError, match=f"its {fact} is 'other', not"):
        labels.of(record, evaluation)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"counts_file": "../elsewhere.npz"}, "key 'counts_file'"), ({"counts_sha256": "0" * 64}, "key 'counts_sha256'")],
)
def test_counts_are_the_file_of_the_records_name_and_hash(
    record: Record, evaluation: Evaluation, change: dict[str, str], said: str
) -> None:
    assert check_counts(MINI, record, evaluation)[1] == []
    (told,) = check_counts(MINI, record, evaluation.model_copy(update=change))[1]
    assert said in told


@pytest.mark.parametrize(
    "size", [[590], [590, 1640, 3], [0, 1640], [590, 20_001], [590.0, 1640], [True, 1640], 590, "59"]
)
def test_a_size_that_no_image_has_is_refused(size: object) -> None:
    assert (stated_size(None), stated_size([1, 20_000])) == (None, (1, 20_000))
    with pytest.raises(InputError, match=r"key 'dataset_key\.image_size'"):
        stated_size(size)


@pytest.mark.parametrize("width", [1, 1_001, True, 30.0, "30"])
def test_a_width_that_no_lane_has_is_refused(width: object) -> None:
    assert (stated_width(None), stated_width(2), stated_width(1_000)) == (None, 2, 1_000)
    with pytest.raises(InputError, match=r"key 'dataset_key\.lane_width'"):
        stated_width(width)


def test_a_licensed_dataset_is_opened_in_the_size_and_width_that_its_record_states(
    record: Record, evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SAMIRO_BENCH_DATA_ROADS", str(tmp_path / "own"))
    laid_out(unpack_labels(MINI / LABELS), tmp_path / "own")
    own = open_dataset("culane", tmp_path / "own", name="roads")
    scored = evaluation.model_copy(update={"dataset_sha256": own.content_key()})
    with LabelSource(tmp_path) as labels:
        for width in (20, 24):
            key = {"real": "roads", "form": "culane", "image_size": [600, 1600], "lane_width": width}
            licensed = record.model_copy(update={"identity": record.identity.model_copy(update={"dataset_key": key})})
            found = labels.of(licensed, scored)
            assert found.doubt is None
            assert isinstance(found.dataset, CULane)
            assert (found.dataset.image_size, found.dataset.lane_width) == ((600, 1600), width)
            assert metric_of(found.dataset) == f"culane/official (1600x600, lanes {width} px wide)"
        elsewhere = labels.of(licensed, scored.model_copy(update={"dataset": "highways"}))
        assert "the record doesn't say where highways is from" in (elsewhere.doubt or "")
