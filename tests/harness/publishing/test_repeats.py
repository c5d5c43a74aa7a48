"""One training under several names shows in its checkpoint, its log and its times."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.publishing.logs import log_path
from harness.publishing.repeats import repeated_trainings
from harness.publishing.verify import verify
from harness.records.record import Record, read_records, write_record
from tests.harness.publishing.forging import MINI, hashed_again, trained

PUBLISHED = sorted(path.parent for path in MINI.parent.glob("*/records"))

pytestmark = pytest.mark.usefixtures("labelled_once")


@pytest.fixture
def two(tmp_path: Path) -> tuple[Record, Record]:
    """Two published rows, whose logs lie in `tmp_path`."""
    one, other, *_ = read_records(MINI / "records")
    (tmp_path / "training").mkdir()
    for record in (one, other):
        shutil.copy(log_path(MINI, record), log_path(tmp_path, record))
    return one, other


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_no_training_is_published_here_under_several_names(folder: Path) -> None:
    assert list(repeated_trainings(folder, read_records(folder / "records"))) == []


def test_each_trace_of_a_training_is_told_by_itself(two: tuple[Record, Record], tmp_path: Path) -> None:
    one, other = two
    assert list(repeated_trainings(tmp_path, two)) == []
    names = f"under 2 names: {one.id}; {other.id}"
    copied = other.model_copy(update={"checkpoint_sha256": one.checkpoint_sha256})
    assert list(repeated_trainings(tmp_path, [one, copied])) == [f"one checkpoint {names}"]
    assert one.training is not None
    times = {"seconds": one.training.seconds, "seconds_per_step": one.training.seconds_per_step}
    assert list(repeated_trainings(tmp_path, [one, trained(other, **times)])) == [f"one time of training {names}"]
    timed = other.model_copy(update={"throughput": one.throughput})
    assert list(repeated_trainings(tmp_path, [one, timed])) == [f"one measurement of latency {names}"]
    shutil.copy(log_path(tmp_path, one), log_path(tmp_path, other))
    assert list(repeated_trainings(tmp_path, two)) == [f"one training log {names}"]
    assert list(repeated_trainings(tmp_path, [one, copied])) == [f"one checkpoint, one training log {names}"]


def test_names_of_one_training_are_two_and_how_many_more(two: tuple[Record, Record], tmp_path: Path) -> None:
    one, _ = two
    same = [trained(one.model_copy(update={"id": name, "throughput": ()}), seconds=0.0) for name in "abcd"]
    assert list(repeated_trainings(tmp_path, same)) == ["one checkpoint under 4 names: a; b; 2 more"]


def test_rows_of_programs_have_no_training_to_repeat(two: tuple[Record, Record], tmp_path: Path) -> None:
    programs = [record.model_copy(update={"training": None, "checkpoint_sha256": "none"}) for record in two]
    assert list(repeated_trainings(tmp_path, programs)) == []


def test_verify_marks_one_checkpoint_under_two_names(mini: Path) -> None:
    one, other = read_records(mini / "records")
    write_record(mini / "records", other.model_copy(update={"checkpoint_sha256": one.checkpoint_sha256}))
    hashed_again(mini)
    found = verify(mini)
    assert found.sound
    assert f"one checkpoint under 2 names: {one.id}; {other.id}" in found.marks
