"""The logs of trainings in a publication: each ends as its record says, and rows without one are marked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.publishing.examine import examine
from harness.publishing.expected import ExpectedSuite
from harness.publishing.logs import absent_logs, copy_log, first_losses, log_faults, log_path, losses_of
from harness.publishing.verify import verify
from harness.records.record import Record, read_records
from tests.harness.publishing.forging import BOUNDS, MINI, hashed_again, sealed, submission

PUBLISHED = sorted(path.parent for path in MINI.parent.glob("*/records"))

pytestmark = pytest.mark.usefixtures("labelled_once")


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    """Both arms of a detector of the mini suite, as somebody submits them."""
    return submission(tmp_path / "mini/alice", "roads-resa_micro-")


def edited(folder: Path, record: Record, **values: object) -> None:
    """Write other values into the last entry of a log, and the hashes again."""
    *before, last = log_path(folder, record).read_text().splitlines()
    log_path(folder, record).write_text("\n".join([*before, json.dumps(json.loads(last) | values)]) + "\n")
    hashed_again(folder)


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_every_log_published_here_ends_as_its_record_says(folder: Path) -> None:
    records = read_records(folder / "records")
    assert [log_faults(folder, record) for record in records] == [[]] * len(records)
    assert absent_logs(folder, records) == []


def test_logs_of_two_trainings_that_changed_places_differ(mini: Path) -> None:
    first, second = (log_path(mini, record) for record in read_records(mini / "records"))
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)
    hashed_again(mini)
    rows = verify(mini).rows
    assert [row.outcome for row in rows] == ["differs"] * 2
    assert all("not the log of this training: its last entry has losses {" in row.told[0] for row in rows)


def test_a_log_without_its_last_entry_differs_and_so_does_one_of_which_nothing_is_left(mini: Path) -> None:
    cut, emptied = read_records(mini / "records")
    log_path(mini, cut).write_text("".join(log_path(mini, cut).read_text().splitlines(keepends=True)[:-1]))
    log_path(mini, emptied).write_text("")
    hashed_again(mini)
    told = [row.told[0] for row in verify(mini).rows]
    assert cut.training is not None
    assert f"training/{cut.id}.jsonl: not the log of this training: its last entry has step " in told[0]
    assert f", the record {cut.training.steps}; " in told[0]
    assert "its last entry has step None, the record " in told[1]


def test_a_loss_that_differs_in_its_last_digit_is_found_and_refused_of_a_submission(
    mini: Path, suite: ExpectedSuite
) -> None:
    record, _ = read_records(mini / "records")
    assert record.training is not None
    losses = dict(record.training.final_losses)
    name = next(iter(losses))
    edited(mini, record, losses=losses | {name: losses[name] * (1 + 2**-52)})
    sealed(mini)
    (reason,) = examine(mini, "alice", suite, BOUNDS).reasons
    assert "not the log of this training: its last entry has losses" in reason


def test_diagnostics_that_the_log_does_not_end_with_differ(mini: Path) -> None:
    """What a method's R^2 towards its oracle came to, for one."""
    (record,) = [one for one in read_records(mini / "records") if one.identity.method == "samiro"]
    assert record.training is not None
    diagnostics = record.training.final_diagnostics
    name = next(name for name in diagnostics if name.startswith("r2/"))
    edited(mini, record, diagnostics=diagnostics | {name: 0.99})
    (fault,) = log_faults(mini, record)
    assert "not the log of this training: its last entry has diagnostics {" in fault


def test_a_diagnostic_that_was_not_finite_is_null_in_the_log_and_in_no_record(mini: Path) -> None:
    record, _ = read_records(mini / "records")
    assert record.training is not None
    edited(mini, record, diagnostics=record.training.final_diagnostics | {"gradient_ratio/stem": None})
    assert log_faults(mini, record) == []


@pytest.mark.parametrize("loss", ["NaN", "Infinity", "1e999"])
def test_a_loss_that_is_no_finite_number_is_refused_since_no_page_could_be_read_with_it(mini: Path, loss: str) -> None:
    record, _ = read_records(mini / "records")
    path = log_path(mini, record)
    _, *others = path.read_text().splitlines()
    path.write_text("\n".join([f'{{"step": 1, "losses": {{}}, "loss": {loss}}}', *others]))
    hashed_again(mini)
    (fault,) = log_faults(mini, record)
    assert "not the log of a training (a loss in it is no finite number)" in fault


def test_rows_without_a_log_are_marked_and_differ_in_nothing(mini: Path) -> None:
    records = read_records(mini / "records")
    log_path(mini, records[1]).unlink()
    hashed_again(mini)
    found = verify(mini)
    assert found.sound
    assert found.marks == (
        f"no training log of 1 of 2 rows, the first is {records[1].id}",
        f"how 1 of 1 pair began can't be looked at: 1 without a log from step 1 on; the first is of {records[1].id}",
    )
    assert absent_logs(mini, [record.model_copy(update={"training": None}) for record in records]) == []


def test_a_log_is_one_even_beside_a_row_that_says_nothing_of_its_training(mini: Path) -> None:
    record = read_records(mini / "records")[0].model_copy(update={"training": None})
    assert log_faults(mini, record) == []
    shutil.copyfile(MINI / "leaderboard.md", log_path(mini, record))
    (fault,) = log_faults(mini, record)
    assert "not the log of a training" in fault


def test_losses_are_read_from_a_training_log_and_a_broken_one_is_named(tmp_path: Path) -> None:
    log = tmp_path / "cell.jsonl"
    log.write_text('{"step": 1, "loss": 5.5}\n{"step": 3, "loss": null}\n{"step": 10, "loss": 2}\n')
    assert losses_of(log) == ((1, 5.5), (10, 2.0))
    assert losses_of(tmp_path / "none.jsonl") == ()
    log.write_text(
        '{"step": 1, "loss": 5.5}\n{"step": 1, "resumed": 1}\n{"step": 2, "validation": 0.1}\n{"step": 3, "loss": 4}\n'
    )
    assert losses_of(log) == ((1, 5.5), (3, 4.0))
    log.write_text('{"step": 1}\n')
    with pytest.raises(InputError, match=r"cell\.jsonl: not the log of a training"):
        losses_of(log)


def test_a_log_too_large_for_a_publication_is_thinned_out_and_still_begins_and_ends_as_it_did(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of 500,000 steps, as LSTR's on LLAMAS, comes to seven times the limit."""
    record = read_records(mini / "records")[0]
    run, published = tmp_path / "training.jsonl", log_path(mini, record)
    lines = [*published.read_text().splitlines(), '{"step": 220, "resumed": 1}', '{"step": 220, "validation": 0.5}']
    run.write_text("\n".join(lines) + "\n")
    copy_log(run, published)
    assert published.read_bytes() == run.read_bytes()
    limit = run.stat().st_size // 3
    monkeypatch.setattr("harness.publishing.logs.LOG_LIMIT", limit)
    with pytest.raises(InputError, match="the limit is"):
        losses_of(published)
    copy_log(run, published)
    kept = published.read_text().splitlines()
    assert limit / 3 < published.stat().st_size <= limit
    assert (kept[0], kept[-3:]) == (lines[0], lines[-3:])
    assert kept == [line for line in lines if line in kept]
    assert log_faults(mini, record) == []
    assert set(first_losses(published)) == set(json.loads(lines[0])["losses"])
    run.write_text("x" * (limit + 1))
    with pytest.raises(InputError, match="not the log of a training"):
        copy_log(run, published)
