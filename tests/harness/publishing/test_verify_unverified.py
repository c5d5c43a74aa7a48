"""Rows whose labels aren't published or can't be made again are unverified, unless what can be checked differs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.datasets.base import open_dataset
from harness.datasets.predictions import pack_predictions, predictions_sha256, unpack_predictions
from harness.publishing.checksums import write_sums
from harness.publishing.labels import laid_out, unpack_labels
from harness.publishing.rescoring import ABSENT, DAMAGED, OTHERS, LabelSource
from harness.publishing.verify import rows_of, verify
from harness.records.record import Submission, counts_path, identity_hash, read_any_record, write_record
from tests.harness.publishing.forging import LABELS, evaluated, hashed_again
from tests.harness.publishing.published_rows import PREDICTIONS, RECORD, another_lane, outcomes, told

pytestmark = pytest.mark.usefixtures("labelled_once")


def relabelled(folder: Path, content: str) -> None:
    """Make a publication's rows those of a dataset that isn't rendered: identity, id, names and all."""
    shutil.rmtree(folder / "labels")
    for path in sorted((folder / "records").glob("*.json")):
        record = read_any_record(path).record
        key = {"real": "roads", "form": "culane", "image_size": [590, 1640]}
        identity = record.identity.model_copy(update={"dataset_key": key})
        name = f"{record.id.rpartition('-')[0]}-{identity_hash(identity)[:10]}"
        (evaluation,) = record.evaluations
        counts = counts_path(path.parent, name, "test")
        (path.parent / evaluation.counts_file).rename(counts)
        (folder / f"predictions/{record.id}.test.npz").rename(folder / f"predictions/{name}.test.npz")
        evaluation = evaluation.model_copy(update={"counts_file": counts.name, "dataset_sha256": content})
        path.unlink()
        write_record(
            path.parent, record.model_copy(update={"id": name, "identity": identity, "evaluations": (evaluation,)})
        )
    hashed_again(folder)


def test_rows_of_a_licensed_dataset_are_scored_on_ones_own_copy_and_are_unverified_without(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    dataset = laid_out(unpack_labels(mini / LABELS), own)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = dataset.content_key()
    relabelled(mini, before)
    monkeypatch.setenv("SAMIRO_BENCH_DATA_ROADS", str(own))
    assert outcomes(verify(mini)) == ["verified"] * 2
    monkeypatch.setenv("SAMIRO_BENCH_DATA_ROADS", str(tmp_path / "nowhere"))
    found = verify(mini)
    assert (found.sound, outcomes(found)) == (True, ["unverified"] * 2)
    assert all(row.told[0].startswith(ABSENT) for row in found.rows)
    label = next(own.rglob("*.lines.txt"))
    label.write_text("1 2 3 4\n")
    monkeypatch.setenv("SAMIRO_BENCH_DATA_ROADS", str(own))
    now = open_dataset("culane", own).content_key()
    told = [row.told[0] for row in verify(mini).rows]
    assert all(line.startswith(OTHERS) and before[:12] in line and now[:12] in line for line in told)
    label.write_text("1,2,3,4\n")
    assert all(row.told[0].startswith(DAMAGED) and label.name in row.told[0] for row in verify(mini).rows)
    another_lane(sorted((mini / "predictions").glob("*.npz"))[0])
    assert outcomes(verify(mini)) == ["differs", "unverified"]


def scored_better(folder: Path) -> None:
    """State another score in a record than its counts give."""
    path = min((folder / "records").glob("*.json"))
    record = read_any_record(path).record
    total = record.evaluations[0].total.model_copy(update={"f1_50": 0.99})
    evaluation = record.evaluations[0].model_copy(update={"total": total})
    write_record(path.parent, record.model_copy(update={"evaluations": (evaluation,)}))
    write_sums(folder)


def test_without_labels_scores_are_held_against_their_counts_all_the_same(mini: Path) -> None:
    relabelled(mini, "a" * 64)
    assert outcomes(verify(mini)) == ["unverified"] * 2
    scored_better(mini)
    found = verify(mini)
    assert outcomes(found) == ["differs", "unverified"]
    assert "f1_50: recorded 0.99, its counts give" in found.rows[0].told[0]
    another_lane(min((mini / "predictions").glob("*.npz")))
    said = "\n".join(verify(mini).rows[0].told)
    assert "f1_50: recorded 0.99, its counts give" in said
    assert "key 'predictions_sha256'" in said


def test_without_labels_predictions_are_those_of_the_images_that_were_counted(mini: Path) -> None:
    relabelled(mini, "a" * 64)
    path = min((mini / "records").glob("*.json"))
    record = read_any_record(path).record
    archive = mini / f"predictions/{record.id}.test.npz"
    ids, lanes = (part[::-1] for part in unpack_predictions(archive))
    pack_predictions(archive, ids, lanes)
    write_record(path.parent, evaluated(record, predictions_sha256=predictions_sha256(ids, lanes)))
    with LabelSource(mini) as labels:
        (row,) = rows_of(mini, path, read_any_record(path), labels)
    assert row.outcome == "differs"
    assert row.told[0].startswith("the archived predictions are of other images than the counts")


def test_predictions_for_a_server_are_held_against_the_record(mini: Path) -> None:
    record = read_any_record(mini / "records" / f"{RECORD}.json").record
    kept = record.evaluations[0].model_dump(include=set(Submission.model_fields))
    submission = Submission.model_validate(kept | {"why": "labels private"})

    def publish(**changes: str) -> str:
        submissions = (submission.model_copy(update=changes),)
        path = write_record(mini / "records", record.model_copy(update={"evaluations": (), "submissions": submissions}))
        with LabelSource(mini) as labels:
            (row,) = rows_of(mini, path, read_any_record(path), labels)
        return "\n".join((row.outcome, *row.told))

    assert publish() == "unverified\nlabels private: predictions checked"
    assert publish(dataset_sha256="0" * 64) == (
        "differs\nkey 'test': 'dataset_sha256' isn't the 'dataset_key' of the identity"
    )
    assert publish(predictions_sha256="0" * 64).startswith(f"differs\n{PREDICTIONS}: key 'predictions_sha256'")


def test_labels_that_cannot_be_made_again_leave_a_row_unverified(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.publishing.rescoring.doubt_of", lambda *_: "scored again, but in doubt")
    found = verify(mini)
    assert (found.sound, outcomes(found), told(found)) == (True, ["unverified"] * 2, "scored again, but in doubt")
