"""Records on disk: what is written is read back, and what is broken is refused in one line that names file and key."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.errors import InputError
from harness.files.stored import sha256_of_file
from harness.files.validation import plain_complaint
from harness.records.counts import AccuracyScores, scope_scores, write_counts
from harness.records.record import (
    Record,
    read_checked_counts,
    read_record,
    read_records,
    read_sound_records,
    write_record,
)
from harness.records.text import RECORD_LIMIT, with_hash
from tests.harness.example_records import counts, of_tusimple, rates, record

ROOT = Path(__file__).resolve().parents[3]


STEP_COST = {
    "protocol": "step-cost/2", "device": "cpu", "threads": 1, "precision": "fp32", "batch_size": 16, "micro_batch_size": 16,
    "blocks": 6, "ratio": 1.2, "ratio_low": 1.1, "ratio_high": 1.3, "seconds_per_step": 0.0, "baseline_seconds_per_step": 0.0,
    "peak_memory_bytes": None, "baseline_peak_memory_bytes": None,
}  # fmt: skip


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
        (lambda value: value["identity"]["recipe"].update(gamma=float("inf")), "'identity.recipe'"),
        (lambda value: value.update(schema_version=3), "'schema_version' is 3"),
        (lambda value: value.pop("schema_version"), "'schema_version' is None"),
    ],
)
def test_a_bad_key_is_named(tmp_path: Path, edit: Any, key: str) -> None:
    assert key in told(edited(tmp_path, edit))


@pytest.mark.parametrize(
    ("edit", "key"),
    [
        (lambda value: value["throughput"][0]["latency_ms"].update(p50=0.0), "'throughput.0.latency_ms': p50 is 0.0 ms"),
        (lambda value: value["throughput"][0]["latency_ms"].update(p50=5e-324), "'throughput.0.latency_ms': p50 is 5e-324"),
        (lambda value: value["throughput"][0]["latency_ms"].update(p99=-1.0), "'throughput.0.latency_ms.p99' can't be -1.0"),
        (lambda value: value["throughput"][0].update(reference_ms=[1.0, 0.0]), "'throughput.0.reference_ms.1' can't be 0.0"),
        (lambda value: value["throughput"][0].update(parameters=10**4000), "'throughput.0.parameters' can't be 1000"),
        (lambda value: value["throughput"][0].update(parameters=-5), "'throughput.0.parameters' can't be -5"),
        (lambda value: value["throughput"][0].update(gflops=-1.0), "'throughput.0.gflops' can't be -1.0"),
        (lambda value: value["throughput"][0].update(gflops=1e300), "'throughput.0.gflops' can't be 1e+300"),
        (lambda value: value["training"].update(seconds=-1.0), "'training.seconds' can't be -1.0"),
        (lambda value: value["training"].update(seconds_per_step=-1.0), "'training.seconds_per_step' can't be -1.0"),
        (lambda value: value["training"].update(resumed=10**4000), "'training.resumed' can't be 1000"),
        (lambda value: value.update(step_cost=STEP_COST | {"ratio": 0.0}), "'step_cost.ratio' can't be 0.0"),
        (lambda value: value.update(step_cost=STEP_COST | {"ratio": 0.5}), "'step_cost': key 'ratio' is 0.5, not from"),
    ],
)  # fmt: skip
def test_sizes_and_times_that_there_cannot_be_are_named(tmp_path: Path, edit: Any, key: str) -> None:
    assert f"key {key}" in told(edited(tmp_path, edit))


def test_what_a_clock_or_a_count_cannot_tell_is_read_as_0(tmp_path: Path) -> None:
    def coarse(value: dict[str, Any]) -> None:
        value["throughput"][0].update(
            gflops=0.0, parameters=0, h2d_ms=dict.fromkeys(value["throughput"][0]["post_ms"], 0.0)
        )
        value["throughput"][0]["post_ms"].update(p50=0.0, minimum=0.0)
        value["training"].update(seconds=0.0, seconds_per_step=0.0)
        value["step_cost"] = STEP_COST

    assert read_record(edited(tmp_path, coarse)).throughput[0].parameters == 0


@pytest.mark.parametrize("folder", sorted((ROOT / "results").rglob("records")), ids=lambda folder: folder.parent.name)
def test_every_record_published_or_submitted_here_is_within_the_bounds(folder: Path) -> None:
    assert len(read_records(folder)) == len([*folder.glob("*.json")])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": ' + "[" * 400 + "]" * 400 + "}", "invalid JSON: recursion limit exceeded at line 1 column"),
        ("[]", "must be a mapping"),
    ],
)
def test_what_is_wrong_with_a_whole_file_is_told_in_words(text: str, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Record.model_validate_json(text)
    assert plain_complaint(caught.value).startswith(said)


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
    overlaps = record().evaluations[0].total.model_dump()
    value["evaluations"][0] |= {"metric": "tusimple/official", "scenarios": {"night": overlaps}}
    hashed_again(path, value)
    assert "scores of another kind than metric 'tusimple/official' gives" in told(path)


def test_counts_that_lie_anywhere_else_than_beside_their_record_are_never_opened(tmp_path: Path) -> None:
    """A submission's record names the file: with the right hash, too, it can't lead to another one."""
    made = record()
    (tmp_path / "records").mkdir()
    elsewhere = tmp_path / "another.npz"
    write_counts(elsewhere, counts())
    hashed = {"counts_sha256": sha256_of_file(elsewhere)}
    for named in ("../another.npz", str(elsewhere)):
        evaluation = made.evaluations[0].model_copy(update={"counts_file": named, **hashed})
        with pytest.raises(InputError, match=r"key 'counts_file' is '.*another\.npz', not a file beside the record"):
            read_checked_counts(tmp_path / "records", made, evaluation)


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
