"""Records and counts on disk: what is written is read back, and what is broken is refused in one line that names file and key."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.counts import (
    AccuracyCounts,
    AccuracyScores,
    Counts,
    OverlapCounts,
    clrnet_f1,
    f1_score,
    read_counts,
    scope_scores,
    write_counts,
)
from harness.errors import InputError
from harness.files import sha256_of_file
from harness.metrics.tusimple import rates as official_rates
from harness.record_text import RECORD_LIMIT, with_hash
from harness.records import (
    Record,
    counts_path,
    read_checked_counts,
    read_record,
    read_records,
    read_sound_records,
    write_record,
)

ROOT = Path(__file__).resolve().parents[2]
ARRAYS = [field.name for field in fields(OverlapCounts)]
LATENCY = {"p50": 10.0, "p90": 11.0, "p95": 12.0, "p99": 13.0, "mean": 10.5, "minimum": 9.0}


def counts(images: int = 3) -> Counts:
    return OverlapCounts(
        image=np.array([f"/{index}.jpg" for index in range(images)]),
        clip=np.array(["a", "a", "b"][:images]),
        scenario=np.array(["normal", "cross", "normal"][:images]),
        labels=np.array([4, 0, 2][:images], dtype=np.int32),
        predictions=np.array([3, 1, 3][:images], dtype=np.int32),
        true_positives=np.array([[3] * 5 + [2] * 5, [0] * 10, [1] * 10][:images], dtype=np.int32),
    )


def record(**changes: Any) -> Record:
    value: dict[str, Any] = {
        "id": "mini-net-baseline-s0",
        "suite": "mini",
        "identity": {
            "detector": "net", "detector_meta": {}, "form": "culane", "method": "baseline", "method_configuration": {},
            "oracle": None, "dataset": "mini", "dataset_key": {}, "recipe": {}, "weights": "none", "precision": "fp32",
            "threads": 2, "selection": "last", "confidence": "published", "seed": 0,
        },
        "fingerprints": {"train": {"harness/training/loop.py": "a" * 64}},
        "checkpoint_sha256": "c" * 64,
        "selected_on": None,
        "evaluations": [
            {
                "name": "test", "dataset": "mini", "dataset_sha256": "d" * 64, "split": "test", "corruption": None,
                "metric": "culane/official", "confidence_threshold": 0.5, "total": scope_scores(counts()).model_dump(),
                "scenarios": {}, "counts_file": "mini-net-baseline-s0.test.counts.npz", "counts_sha256": "e" * 64,
                "predictions_sha256": "f" * 64,
            }
        ],
        "throughput": [
            {
                "protocol": "lane-latency/1-short", "device": "cpu", "threads": 2, "precision": "fp32-strict", "images": 8,
                "iterations": 100, "latency_ms": LATENCY, "model_ms": LATENCY, "post_ms": LATENCY, "fps": 100.0,
                "reference_ms": [20.0, 20.0], "parameters": 1000, "gflops": 1.5, "gflops_is_lower_bound": False,
                "peak_memory_bytes": None,
            }
        ],
        "training": {
            "steps": 10, "images": 160, "batch_size": 16, "micro_batch_size": 16, "seconds": 1.0, "seconds_per_step": 0.1,
            "peak_memory_bytes": None, "resumed": 0, "final_losses": {}, "final_diagnostics": {},
        },
        "artefacts": [],
        "environment": {
            "device": "CPU", "cpu": "x", "cores": 2, "operating_system": "Linux", "python": "3.11", "torch": "2.13",
            "timm": "1.0", "numpy": "2.4", "opencv": "5", "cuda": None, "cudnn": None, "driver": None,
            "samiro_bench": "0.1.0", "commit": None,
        },
    }  # fmt: skip
    return Record.model_validate_json(json.dumps(value | changes))


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = write_record(tmp_path, record())
    assert path.name == "mini-net-baseline-s0.json"
    assert read_record(path) == record()


def test_records_of_a_folder_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write_record(tmp_path, record(id=name))
    assert [read.id for read in read_records(tmp_path)] == ["a", "b", "c"]
    assert read_records(tmp_path / "nowhere") == []


def told(path: Path) -> str:
    """The complaint about a record: one line that begins with the file."""
    with pytest.raises(InputError) as caught:
        read_record(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


def edited(tmp_path: Path, edit: Any) -> Path:
    path = write_record(tmp_path, record())
    value = json.loads(path.read_text())
    edit(value)
    hashed_again(path, value)
    return path


def hashed_again(path: Path, value: dict[str, Any]) -> None:
    """Write a record's value as the store lays it out, with the hash that belongs to it."""
    value.pop("content_sha256", None)
    text = json.dumps(value, indent=1) + "\n"
    path.write_bytes(with_hash(text) if value.get("schema_version") == 2 else text.encode())


@pytest.mark.parametrize(
    ("edit", "key"),
    [
        (lambda value: value.update(colour="red"), "'colour'"),
        (lambda value: value["identity"].update(colour="red"), "'identity.colour'"),
        (lambda value: value["training"].pop("steps"), "'training.steps'"),
        (lambda value: value["training"].update(steps="many"), "'training.steps'"),
        (lambda value: value["evaluations"][0]["total"].update(images=None), "'evaluations.0.total.images'"),
        (lambda value: value["throughput"][0].update(protocol="mine/1"), "'throughput.0.protocol'"),
        (lambda value: value["training"].update(seconds=float("nan")), "'training.seconds'"),
        (lambda value: value.update(schema_version=3), "'schema_version' is 3"),
        (lambda value: value.pop("schema_version"), "'schema_version' is None"),
    ],
)
def test_a_bad_key_is_named(tmp_path: Path, edit: Any, key: str) -> None:
    assert key in told(edited(tmp_path, edit))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema_version": 1}'])
def test_what_is_no_record_is_refused_by_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    told(path)


def test_a_record_carries_the_hash_of_its_other_lines(tmp_path: Path) -> None:
    path = write_record(tmp_path, record())
    lines = path.read_bytes().splitlines(keepends=True)
    others = b"".join(line for line in lines if not line.startswith(b' "content_sha256"'))
    assert json.loads(path.read_text())["content_sha256"] == hashlib.sha256(others).hexdigest()
    assert Record.model_validate_json(others) == record()


@pytest.mark.parametrize(
    ("sound", "edited"),
    [
        ('"f1_50": 0', '"f1_50": 1'),
        ('"confidence_threshold": 0.5', '"confidence_threshold": 0.6'),
        ('"p50": 10.0', '"p50": 19.0'),
        ('"seconds": 1.0', '"seconds": 7.0'),
        ('"seed": 0', '"seed": 1'),
        ('"torch": "2.13"', '"torch": "2.12"'),
        (f'"{"c" * 64}"', f'"{"c" * 63}d"'),
        ('"content_sha256": "', '"content_sha256": "0'),
    ],
)
def test_one_changed_digit_anywhere_is_found(tmp_path: Path, sound: str, edited: str) -> None:
    path = write_record(tmp_path, record())
    text = path.read_text()
    assert sound in text
    path.write_text(text.replace(sound, edited, 1))
    assert "content_sha256" in told(path)


def test_a_record_that_was_laid_out_anew_or_lost_its_hash_is_refused(tmp_path: Path) -> None:
    path = write_record(tmp_path, record())
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value))
    assert "not laid out as it was written" in told(path)
    del value["content_sha256"]
    path.write_text(json.dumps(value, indent=1))
    assert "no line for key 'content_sha256'" in told(path)


def test_a_record_of_version_1_is_refused_by_name_with_what_makes_it_again(tmp_path: Path) -> None:
    path = write_record(tmp_path, record())
    value = json.loads(path.read_text()) | {"schema_version": 1}
    del value["content_sha256"]
    path.write_text(json.dumps(value, indent=1))
    assert "key 'schema_version' is 1: written before records carried a hash" in told(path)
    assert "run `bench` again" in told(path)


def test_a_key_that_stands_twice_is_refused_though_the_hash_is_right(tmp_path: Path) -> None:
    path = write_record(tmp_path, record())
    body = record().model_dump_json(indent=1) + "\n"
    for key, place in (("suite", ' "suite": "mini",'), ("seed", '  "seed": 0')):
        assert body.count(place) == 1
        path.write_bytes(with_hash(body.replace(place, f"{place.rstrip(',')},\n{place}")))
        assert f"key '{key}' stands twice" in told(path)


def test_a_copy_under_another_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "copy.json"
    path.write_bytes(write_record(tmp_path, record()).read_bytes())
    assert "'mini-net-baseline-s0', so the file is a copy" in told(path)


def test_a_record_of_100_mb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with open(path, "wb") as stream:
        stream.truncate(100_000_000)
    assert f"100000000 bytes, and the limit is {RECORD_LIMIT}" in told(path)


def test_what_lies_beside_sound_records_is_named_and_they_are_read(tmp_path: Path) -> None:
    """A folder, a pipe, an empty file, NaN, deep nesting, a file that may not be read, an unknown version."""
    sound = write_record(tmp_path, record())
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "link.json").symlink_to("nowhere")
    for name, text in {
        "empty": "", "nan": '{"schema_version": NaN}', "deep": "[" * 100_000, "deeper": '{"schema_version": 2, "id": ' + "[" * 100_000,
        "newer": '{"schema_version": 99}',
    }.items():  # fmt: skip
        (tmp_path / f"{name}.json").write_text(text)
    paths = sorted(tmp_path.glob("*.json"))
    records, faults = read_sound_records(paths)
    assert records == [record()]
    assert [line.split(":")[0] for line in faults] == [str(path) for path in paths if path != sound]
    assert not any("\n" in line for line in faults)


def test_a_missing_record_is_refused_by_file(tmp_path: Path) -> None:
    told(tmp_path / "missing.json")


def test_records_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        record().suite = "other"  # type: ignore[misc]


def test_counts_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = counts_path(tmp_path, "x", "test")
    write_counts(path, counts())
    read = read_counts(path)
    for name in ARRAYS:
        assert np.array_equal(getattr(read, name), getattr(counts(), name))
        assert getattr(read, name).dtype == getattr(counts(), name).dtype


@pytest.mark.parametrize(
    "broken",
    [
        replace(counts(), clip=np.array(["a"])),
        replace(counts(), labels=np.array([1, 2], dtype=np.int32)),
        replace(counts(), predictions=np.zeros((3, 2), dtype=np.int32)),
        replace(counts(), true_positives=np.zeros((3, 9), dtype=np.int32)),
    ],
)
def test_counts_whose_arrays_disagree_are_refused_by_file(tmp_path: Path, broken: Counts) -> None:
    path = tmp_path / "x.npz"
    write_counts(path, broken)
    with pytest.raises(InputError, match=r"x\.npz: its arrays disagree"):
        read_counts(path)


@pytest.mark.parametrize("keep", [0, 10, 200, -1])
def test_truncated_counts_are_refused_by_file(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "x.npz"
    write_counts(path, counts())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"x\.npz: not a readable counts file"):
        read_counts(path)


def test_counts_without_one_array_or_with_pickled_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, image=counts().image)
    with pytest.raises(InputError, match=r"x\.npz: not a readable counts file .*clip"):
        read_counts(path)
    arrays = {name: getattr(counts(), name) for name in ARRAYS}
    np.savez_compressed(path, **(arrays | {"image": np.array([{}, {}, {}], dtype=object)}))
    with pytest.raises(InputError, match=r"x\.npz: not a readable counts file"):
        read_counts(path)


def test_counts_are_read_only_with_the_recorded_hash(tmp_path: Path) -> None:
    made = record()
    evaluation = made.evaluations[0]
    path = tmp_path / evaluation.counts_file
    with pytest.raises(
        InputError, match=r"npz: missing, though mini-net-baseline-s0\.json names it under 'counts_file'"
    ):
        read_checked_counts(tmp_path, made, evaluation)
    write_counts(path, counts())
    with pytest.raises(InputError, match=r"npz: differs from key 'counts_sha256' of mini-net-baseline-s0\.json"):
        read_checked_counts(tmp_path, made, evaluation)
    right = evaluation.model_copy(update={"counts_sha256": sha256_of_file(path)})
    assert np.array_equal(read_checked_counts(tmp_path, made, right).labels, counts().labels)


def test_scores_of_three_images_by_hand() -> None:
    total = scope_scores(counts())
    assert (total.images, total.labels, total.predictions) == (3, 6, 7)
    assert total.true_positives == (4, 4, 4, 4, 4, 3, 3, 3, 3, 3)
    assert total.f1_50 == pytest.approx(2 * 4 / 13)
    assert total.f1_75 == pytest.approx(2 * 3 / 13)
    assert total.mf1 == pytest.approx((5 * 8 / 13 + 5 * 6 / 13) / 10)


def test_a_scope_without_labels_has_no_f1() -> None:
    crossroads = scope_scores(counts(), counts().scenario == "cross")
    assert (crossroads.labels, crossroads.predictions, crossroads.f1_50, crossroads.f1_75) == (0, 1, None, None)
    assert crossroads.mf1 == 0.0


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_f1_is_the_harmonic_mean_of_precision_and_recall(found: int, missed: int, invented: int) -> None:
    labels, predictions = found + missed, found + invented
    f1 = f1_score(found, labels, predictions)
    if labels == 0:
        assert f1 is None
    elif found == 0:
        assert f1 == 0.0
    else:
        precision, recall = found / predictions, found / labels
        assert f1 == pytest.approx(2 * precision * recall / (precision + recall))


def rates() -> AccuracyCounts:
    return AccuracyCounts(
        image=np.array(["clips/0/20.jpg", "clips/1/20.jpg", "clips/2/20.jpg"]),
        clip=np.array(["a", "a", "b"]),
        scenario=np.array(["unnamed"] * 3),
        labels=np.array([4, 5, 2], dtype=np.int32),
        predictions=np.array([4, 4, 1], dtype=np.int32),
        matched=np.array([3, 4, 2], dtype=np.int32),
        accuracy=np.array([0.9, 0.95, 1.0]),
        fp=np.array([0.25, 0.0, -1.0]),
        fn=np.array([0.25, 0.0, 0.0]),
    )


def test_tusimples_counts_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_counts(tmp_path / "x.npz", rates())
    read = read_counts(tmp_path / "x.npz")
    assert isinstance(read, AccuracyCounts)
    for field in fields(read):
        assert np.array_equal(getattr(read, field.name), getattr(rates(), field.name))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (replace(rates(), fp=np.array([0.0, np.nan, 0.0])), "'fp' holds something else"),
        (replace(rates(), fn=np.zeros(2)), "disagree in length"),
        (replace(rates(), matched=np.zeros(3)), "'matched' holds something else"),
        (replace(counts(), clip=np.zeros(3)), "'clip' holds something else"),
    ],
)
def test_counts_of_other_types_are_refused_by_file(tmp_path: Path, broken: Any, said: str) -> None:
    write_counts(tmp_path / "x.npz", broken)
    with pytest.raises(InputError, match=rf"x\.npz: .*{said}"):
        read_counts(tmp_path / "x.npz")


def test_scores_of_three_tusimple_images_by_hand() -> None:
    total = scope_scores(rates())
    assert isinstance(total, AccuracyScores)
    assert (total.images, total.labels, total.predictions, total.matched) == (3, 11, 9, 9)
    assert total.accuracy == pytest.approx(2.85 / 3)
    assert (total.fp, total.fn) == (pytest.approx(-0.25), pytest.approx(0.25 / 3))
    assert total.f1_matched == pytest.approx(18 / 20)
    # a = 1.25: 2 a / (a + FN + 1)
    assert total.f1_clrnet == pytest.approx(2.5 / (1.25 + 0.25 / 3 + 1))
    assert total.images_with_negative_fp == 1
    assert clrnet_f1(1.0, 1.0) is None


def of_tusimple() -> Record:
    evaluation = record().evaluations[0].model_dump()
    evaluation |= {"metric": "tusimple/official", "total": scope_scores(rates()).model_dump()}
    return record(evaluations=[evaluation])


def test_a_record_of_tusimple_comes_back_with_scores_of_its_kind(tmp_path: Path) -> None:
    path = write_record(tmp_path, of_tusimple())
    read = read_record(path)
    assert read == of_tusimple()
    assert isinstance(read.evaluations[0].total, AccuracyScores)


def test_bad_keys_of_tusimples_scores_are_named_and_kinds_never_mixed(tmp_path: Path) -> None:
    path = write_record(tmp_path, of_tusimple())
    value = json.loads(path.read_text())
    total = value["evaluations"][0]["total"]
    for change, key in (
        ({"accuracy": "much"}, "'evaluations.0.total.accuracy'"),
        ({"mf1": 0.5}, "'evaluations.0.total.mf1'"),
    ):
        value["evaluations"][0]["total"] = total | change
        hashed_again(path, value)
        assert key in told(path)
    value["evaluations"][0] |= {"total": total, "metric": "culane/official"}
    hashed_again(path, value)
    assert "scores of another kind than metric 'culane/official' gives" in told(path)


def test_counts_of_another_metric_than_the_scores_are_refused(tmp_path: Path) -> None:
    made = record()
    path = tmp_path / made.evaluations[0].counts_file
    write_counts(path, rates())
    evaluation = made.evaluations[0].model_copy(update={"counts_sha256": sha256_of_file(path)})
    with pytest.raises(InputError, match="counts of another metric than culane/official"):
        read_checked_counts(tmp_path, made, evaluation)


def test_records_published_before_there_were_submissions_are_still_read() -> None:
    """Version 1 has only grown: results/mini was written without what came later."""
    folder = ROOT / "results/mini/records"
    published = read_records(folder)
    assert published
    for one in published:
        for evaluation in one.evaluations:
            assert scope_scores(read_checked_counts(folder, one, evaluation)) == evaluation.total
    value = json.loads(record().model_dump_json())
    del value["submissions"]
    assert Record.model_validate_json(json.dumps(value)) == record()


def broken_at(counts: Counts, name: str, value: Any) -> Counts:
    """Counts whose last image has another value."""
    array = getattr(counts, name).copy()
    array[-1] = value
    return replace(counts, **{name: array})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("labels", -2), ("labels", 0), ("predictions", -1), ("predictions", 0), ("true_positives", -1), ("true_positives", 3),
        ("true_positives", [3] + [1] * 9), ("true_positives", [1] * 9 + [-1]), ("labels", -(2**31)), ("predictions", 2**31 - 1),
    ],
)  # fmt: skip
def test_counts_of_lanes_that_no_scoring_gives_are_refused_with_the_image(
    tmp_path: Path, name: str, value: Any
) -> None:
    path = tmp_path / "x.counts.npz"
    write_counts(path, broken_at(counts(), name, value))
    if value == 2**31 - 1:
        assert read_counts(path).predictions[-1] == value
        return
    with pytest.raises(InputError, match=r"counts of '/2.jpg' that no scoring gives \(1 images\)"):
        read_counts(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("labels", -1), ("predictions", -1), ("matched", -1), ("matched", 99), ("accuracy", -0.1), ("accuracy", 1.1),
        ("fn", -0.1), ("fn", 1.1), ("fp", 1.1), ("fp", -9.0),
    ],
)  # fmt: skip
def test_rates_that_no_scoring_gives_are_refused(tmp_path: Path, name: str, value: float) -> None:
    path = tmp_path / "x.counts.npz"
    write_counts(path, rates())
    read_counts(path)
    write_counts(path, broken_at(rates(), name, value))
    with pytest.raises(InputError, match="that no scoring gives"):
        read_counts(path)


@pytest.mark.parametrize(
    ("labels", "accuracy", "sound"), [(6, 1.25, True), (6, 1.3, False), (5, 1.25, False), (2, 1.0, True)]
)
def test_the_official_accuracy_passes_1_only_beyond_five_labels(
    tmp_path: Path, labels: int, accuracy: float, sound: bool
) -> None:
    """`harness.metrics.tusimple.rates` of as many lanes, all of them found."""
    if sound:
        assert official_rates([1.0] * labels, labels, labels, 0)[0] == accuracy
    path = tmp_path / "x.counts.npz"
    changed = broken_at(broken_at(broken_at(rates(), "labels", labels), "matched", 0), "fn", 0.5)
    write_counts(path, broken_at(changed, "accuracy", accuracy))
    if sound:
        assert read_counts(path).quality()[-1] == accuracy
    else:
        with pytest.raises(InputError, match="that no scoring gives"):
            read_counts(path)


def test_counts_too_wide_to_be_summed_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.counts.npz"
    write_counts(path, replace(counts(), labels=np.array([2**62] * 3, dtype=np.int64)))
    with pytest.raises(InputError, match="'labels' holds something else"):
        read_counts(path)
